"""An HTTP endpoint on loopback that answers requests to SNS and SQS as AWS does.

moto has no throttling, no expired credentials and no partly failed batch of SQS. The formats are
those of botocore's service models: JSON 1.0 for SQS, XML of the query protocol for SNS.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from shop.up.ports import HOST


class Answer:
    """An HTTP answer: `status`, `headers` and `body`."""

    def __init__(self, status: int, body: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body.encode()
        self.headers = headers or {}


class AwsEndpoint:
    """The endpoint. `answer` is called with the text of each request; `requests` has them all."""

    def __init__(self, url: str, answer: Callable[[str], Answer]) -> None:
        self.url = url
        self.answer = answer
        self.requests: list[str] = []

    @property
    def options(self) -> dict[str, Any]:
        return {
            "endpoint_url": self.url,
            "region_name": "eu-central-1",
            "aws_access_key_id": "AKIASHOPAUDIT",
            "aws_secret_access_key": "s3cret-of-the-shop",
            "aws_session_token": "token-of-the-shop",
        }


@contextmanager
def aws_endpoint(answer: Callable[[str], Answer]) -> Iterator[AwsEndpoint]:
    """Run an endpoint for the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            endpoint.requests.append(text)
            given = endpoint.answer(text)
            self.send_response(given.status)
            for name, value in {**given.headers, "Content-Length": str(len(given.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(given.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    endpoint = AwsEndpoint(f"http://{HOST}:{server.server_port}", answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()


def sqs_error(code: str, *, status: int = 400, message: str = "") -> Answer:
    """Return an error of SQS."""
    fault = "Sender" if status < 500 else "Receiver"
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": message})
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "x-amzn-query-error": f"{code};{fault}",
    }
    return Answer(status, body, headers)


def sns_error(code: str, *, status: int = 400, message: str = "") -> Answer:
    """Return an error of SNS."""
    fault = "Sender" if status < 500 else "Receiver"
    error = f"<Type>{fault}</Type><Code>{code}</Code><Message>{message}</Message>"
    body = (
        '<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">'
        f"<Error>{error}</Error><RequestId>1</RequestId></ErrorResponse>"
    )
    return Answer(status, body, {"Content-Type": "text/xml"})


def sqs_batch(failed: Mapping[str, Mapping[str, Any]], *, omitted: str = "") -> Any:
    """Return a function that acknowledges the entries of SendMessageBatch, but not the failed ones.

    Args:
        failed: the error of an entry, by the text of its body.
        omitted: text of the body of an entry that the answer does not name.
    """

    def answer(text: str) -> Answer:
        entries = json.loads(text)["Entries"]
        kept = [one for one in entries if one["MessageBody"] != omitted]
        body = {
            "Successful": [
                {"Id": one["Id"], "MessageId": "m", "MD5OfMessageBody": ""}
                for one in kept
                if one["MessageBody"] not in failed
            ],
            "Failed": [
                {"Id": one["Id"], **failed[one["MessageBody"]]}
                for one in kept
                if one["MessageBody"] in failed
            ],
        }
        return Answer(200, json.dumps(body), {"Content-Type": "application/x-amz-json-1.0"})

    return answer


def sns_batch(failed: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return the same for PublishBatch."""

    def answer(text: str) -> Answer:
        form = parse_qs(text)
        successful, errors = "", ""
        for name, [body] in form.items():
            if not re.fullmatch(r"PublishBatchRequestEntries\.member\.\d+\.Message", name):
                continue
            [id] = form[name.removesuffix("Message") + "Id"]
            if body in failed:
                values = {**failed[body], "SenderFault": str(failed[body]["SenderFault"]).lower()}
                parts = "".join(f"<{key}>{one}</{key}>" for key, one in values.items())
                errors += f"<member><Id>{id}</Id>{parts}</member>"
            else:
                successful += f"<member><Id>{id}</Id><MessageId>m</MessageId></member>"
        result = f"<Successful>{successful}</Successful><Failed>{errors}</Failed>"
        return Answer(
            200,
            '<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">'
            f"<PublishBatchResult>{result}</PublishBatchResult>"
            "<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></PublishBatchResponse>",
            {"Content-Type": "text/xml"},
        )

    return answer
