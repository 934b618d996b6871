// Compares applyPatch with fast-json-patch's mutating applier, and with the copy
// of the list that leaving the old document alone takes, side by side in one
// run: node client/bench.js
import jsonpatch from 'fast-json-patch';
import { applyPatch } from './src/apply.js';

const row = (i) => ({ id: i, name: `Company ${i}`, sector: ['Energy', 'Industry', 'Health'][i % 3], price: 100 + (i % 977) / 7, volume: i * 31, note: 'x'.repeat(60) });
const make = (bytes) => {
  const rows = [];
  for (let size = 0; size < bytes; size += JSON.stringify(rows.at(-1)).length + 1) rows.push(row(rows.length));
  return { time: 0, rows };
};

// Replaced values, added rows and removed rows, a third each.
function patch(doc, ops, seed) {
  const seed0 = seed;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  return Array.from({ length: ops }, (_, i) => {
    const at = random(doc.rows.length - 40);
    const kind = (i + seed0) % 3;
    if (kind === 1) return { op: 'add', path: `/rows/${at}`, value: row(random(1e6)) };
    if (kind === 2) return { op: 'remove', path: `/rows/${at}` };
    return { op: 'replace', path: `/rows/${at}/price`, value: random(1e6) / 100 };
  });
}

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];

export function compare(bytes, ops, rounds = 400) {
  const text = JSON.stringify(make(bytes));
  // As a page has them: whole from a snapshot, and rows from patches.
  let shared = JSON.parse(text), mutated = JSON.parse(text), kept;
  const times = { ours: [], theirs: [], copy: [] };
  for (let i = 0; i < rounds; i++) {
    const text = JSON.stringify(patch(shared, ops, i + 1));
    const [a, b] = [JSON.parse(text), JSON.parse(text)], { rows } = shared;
    const runs = [
      ['ours', () => (shared = applyPatch(shared, a))],
      ['theirs', () => (mutated = jsonpatch.applyPatch(mutated, b, false, true).newDocument)],
      ['copy', () => (kept = rows.slice())],
    ];
    for (let k = 0; k < 3; k++) {
      const [name, run] = runs[(i + k) % 3], begun = process.hrtime.bigint();
      run();
      times[name].push(Number(process.hrtime.bigint() - begun));
    }
  }
  if (JSON.stringify(shared) !== JSON.stringify(mutated)) throw new Error('the two documents differ');
  return Object.fromEntries(Object.entries(times).map(([name, list]) => [name, median(list.slice(rounds / 4))]));
}

if (import.meta.url === `file://${process.argv[1]}`) {
  console.log(`document, operations: poll-sse, fast-json-patch mutating, a copy of the list (median µs), ratios to the second and to the sum of the last two; Node ${process.version}`);
  for (const [kb, ops] of [[35, 1], [35, 10], [35, 100], [300, 1], [300, 10], [300, 100], [1500, 1], [1500, 10], [1500, 100], [4400, 1], [4400, 100], [4400, 1000]]) {
    const { ours, theirs, copy } = compare(kb * 1000, ops, ops > 500 ? 100 : kb < 100 ? 2000 : 400);
    console.log(`${kb} KB, ${ops}: ${[ours, theirs, copy].map((ns) => (ns / 1000).toFixed(1)).join(', ')}, ${(ours / theirs).toFixed(2)}, ${(ours / (theirs + copy)).toFixed(2)}`);
  }
}
