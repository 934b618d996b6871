// Side by side with fast-json-patch, which writes to the document: a ratio of medians, no time. A single operation is
// measured against that and a copy of the list, which nothing that leaves the old document alone can avoid.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compare } from '../bench.js';

for (const [kilobytes, operations, most, copies = 0] of [[35, 1, 1.5, 1], [35, 100, 1.5], [300, 1, 1.5, 1], [300, 100, 1], [1500, 1, 1.5, 1], [1500, 10, 1], [1500, 100, 1]]) {
  test(`operations on ${kilobytes} KB: ${operations} take at most ${most} times as long${copies ? ' as that and a copy of the list' : ''}`, () => {
    const ratios = [1, 2, 3].map(() => {
      const { ours, theirs, copy } = compare(kilobytes * 1000, operations, kilobytes < 100 ? 2000 : 200);
      return ours / (theirs + copies * copy);
    });
    console.log(`${kilobytes} KB, ${operations}: ${ratios.map((ratio) => ratio.toFixed(2)).join(', ')}`);
    assert.ok(Math.min(...ratios) <= most, `${ratios}`);
  });
}
