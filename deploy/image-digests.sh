#!/bin/sh
# Print the current digest of each image of Dockerfile and compose.yaml, as lines for `.env`:
#   deploy/image-digests.sh >> deploy/.env
# Needs docker with buildx, and access to the registry. Run it again to move to newer images.
set -eu
cd "$(dirname "$0")"

sed -nE 's/^(FROM|    image:) *"?([^"@ ]+)@\$\{([A-Z_]+).*/\3 \2/p' Dockerfile compose.yaml |
while read -r variable image; do
    digest=$(docker buildx imagetools inspect "$image" </dev/null | sed -n 's/^Digest: *//p')
    case $digest in
        sha256:*) echo "$variable=$digest" ;;
        *) echo "No digest of $image was found. Does 'docker buildx imagetools inspect $image' work?" >&2
           exit 1 ;;
    esac
done
