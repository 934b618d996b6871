// One Node library on one pair of documents:
//   node peers.mjs LIBRARY OLD NEW KEY MILLISECONDS
// prints {"best","median","runs"} in nanoseconds and then, on a second line, the patch.
import { readFileSync } from "node:fs";
import fast from "fast-json-patch";
import { createPatch } from "rfc6902";
import { create } from "jsondiffpatch";
import { format } from "jsondiffpatch/formatters/jsonpatch";

const [library, oldFile, newFile, key, budget] = process.argv.slice(2);
const old = JSON.parse(readFileSync(oldFile, "utf8"));
const text = readFileSync(newFile, "utf8");

const differ = create({
  objectHash: (o) => (key && o[key] !== undefined ? o[key] : JSON.stringify(o)),
  arrays: { detectMove: true },
});
const run = {
  "fast-json-patch": () => JSON.stringify(fast.compare(old, JSON.parse(text))),
  rfc6902: () => JSON.stringify(createPatch(old, JSON.parse(text))),
  jsondiffpatch: () => JSON.stringify(format(differ.diff(old, JSON.parse(text)))),
}[library];

const times = [];
let patch;
const end = performance.now() + Number(budget);
do {
  const from = process.hrtime.bigint();
  patch = run();
  times.push(Number(process.hrtime.bigint() - from));
} while (performance.now() < end);
times.sort((a, b) => a - b);
console.log(JSON.stringify({ best: times[0], median: times[times.length >> 1], runs: times.length }));
console.log(patch);
