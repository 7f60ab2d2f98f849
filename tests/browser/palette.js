// Reduce a picture to 256 colours. `url` is a data URL; the answer has the palette as numbers of
// 24 bits, and the index of each pixel in it, as base64.
//
// A colour joins the palette if none there is nearer than a distance, the most frequent ones first.
// The distance grows until 256 colours suffice. So no pixel's red, green or blue changes by more.
async (url) => {
    const bitmap = await createImageBitmap(await (await fetch(url)).blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const data = context.getImageData(0, 0, bitmap.width, bitmap.height).data;

    const pixels = new Uint32Array(data.length / 4);
    const counts = new Map();
    for (let at = 0; at < pixels.length; at++) {
        const colour = (data[4 * at] << 16) | (data[4 * at + 1] << 8) | data[4 * at + 2];
        pixels[at] = colour;
        counts.set(colour, (counts.get(colour) || 0) + 1);
    }
    const colours = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || a - b);

    const apart = (a, b) => Math.max(
        Math.abs((a >> 16) - (b >> 16)),
        Math.abs(((a >> 8) & 255) - ((b >> 8) & 255)),
        Math.abs((a & 255) - (b & 255)),
    );
    const nearest = (palette, colour) => {
        let best = 0;
        for (let at = 1; at < palette.length; at++) {
            if (apart(palette[at], colour) < apart(palette[best], colour)) best = at;
        }
        return best;
    };

    let palette = [];
    for (let distance = 0; ; distance++) {
        palette = [];
        for (const colour of colours) {
            if (palette.length > 256) break;
            const at = palette.length ? nearest(palette, colour) : -1;
            if (at < 0 || apart(palette[at], colour) > distance) palette.push(colour);
        }
        if (palette.length <= 256) break;
    }

    const index = new Map(colours.map((colour) => [colour, nearest(palette, colour)]));
    const parts = [];
    for (let at = 0; at < pixels.length; at += 8192) {
        const part = pixels.subarray(at, at + 8192);
        parts.push(String.fromCharCode(...Array.from(part, (colour) => index.get(colour))));
    }
    return {
        width: bitmap.width, height: bitmap.height, palette, pixels: btoa(parts.join("")),
    };
}
