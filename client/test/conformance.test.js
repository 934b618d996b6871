import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { applyMerge, applyPatch } from '../src/apply.js';

const folder = new URL('../../../shared/conformance/', import.meta.url);
const options = { skip: existsSync(folder) ? false : 'the conformance suites are not beside the repository' };
const read = (file) => JSON.parse(readFileSync(new URL(file, folder), 'utf8'));

for (const file of ['json-patch-tests/spec_tests.json', 'json-patch-tests/tests.json']) {
  test(file, options, () => {
    let run = 0;
    for (const { doc, patch, expected, error, comment, disabled } of read(file)) {
      if (disabled || !patch) continue;
      run++;
      const before = JSON.stringify(doc), what = `${comment ?? ''} ${JSON.stringify(patch)}`;
      if (error !== undefined) assert.throws(() => applyPatch(doc, patch), undefined, what);
      else {
        const after = applyPatch(doc, patch);
        if (expected !== undefined) assert.deepEqual(after, expected, what);
      }
      assert.equal(JSON.stringify(doc), before, what);
    }
    assert.ok(run > 10, `${run} cases were run`);
  });
}

test('RFC 7396, appendix A', options, () => {
  const cases = read('rfc/rfc7396_appendix_a.json');
  assert.ok(cases.length >= 15, `${cases.length} cases`);
  for (const { original, patch, result } of cases) {
    assert.deepEqual(applyMerge(JSON.parse(original), JSON.parse(patch)), JSON.parse(result), `${original} ${patch}`);
  }
});
