"use strict";
// What the file holds: the numbers, the table, and blocks of attempts.
{
  const bytes = (id) => Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));

  T.inflate = async (packed) => {
    const out = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    return JSON.parse(await new Response(out).text());
  };

  T.numbers = () => JSON.parse(document.getElementById("numbers").textContent);
  T.table = () => T.inflate(bytes("table"));

  // A block is unpacked when something of it is asked for; a few stay.
  const blocks = new Map();
  T.block = (n) => {
    let b = blocks.get(n);
    if (!b) {
      b = T.inflate(bytes("block" + n));
      if (blocks.size >= 16) blocks.delete(blocks.keys().next().value);
      blocks.set(n, b);
    }
    return b;
  };
}
