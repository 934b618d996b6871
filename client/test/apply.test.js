import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyMerge, applyPatch, share } from '../src/apply.js';

const freeze = (value) => {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze);
  return value;
};

test('a patch copies what it changes and shares the rest', () => {
  const before = freeze({ a: { n: 1 }, list: [{ id: 1 }, { id: 2 }] });
  const after = applyPatch(before, freeze([
    { op: 'replace', path: '/list/1/id', value: 3 },
    { op: 'add', path: '/list/0', value: { id: 0 } },
    { op: 'add', path: '/list/-', value: 9 },
    { op: 'move', from: '/list/3', path: '/last' },
  ]));
  assert.deepEqual(after, { a: { n: 1 }, list: [{ id: 0 }, { id: 1 }, { id: 3 }], last: 9 });
  assert.equal(after.a, before.a);
  assert.equal(after.list[1], before.list[0]);
});

test('a copied value is not written to through its other place', () => {
  const after = applyPatch(freeze({ a: { n: 1 } }), [
    { op: 'replace', path: '/a/n', value: 2 },
    { op: 'copy', from: '/a', path: '/b' },
    { op: 'replace', path: '/b/n', value: 3 },
  ]);
  assert.deepEqual(after, { a: { n: 2 }, b: { n: 3 } });
});

test('__proto__ is a member like any other', () => {
  const value = JSON.parse('{"x":1}');
  const after = applyPatch({}, [{ op: 'add', path: '/__proto__', value }]);
  assert.equal(JSON.stringify(after), '{"__proto__":{"x":1}}');
  assert.equal(Object.getPrototypeOf(after), Object.prototype);
  const merged = applyMerge({}, JSON.parse('{"__proto__":{"x":1}}'));
  assert.equal(JSON.stringify(merged), '{"__proto__":{"x":1}}');
  assert.throws(() => applyPatch({}, [{ op: 'add', path: '/__proto__/x', value: 1 }]), /does not fit/);
});

test('what does not fit throws', () => {
  const before = freeze({ list: [1], text: 'a' });
  for (const operation of [
    { op: 'remove', path: '/none' }, { op: 'remove', path: '' }, { op: 'replace', path: '/list/01', value: 1 },
    { op: 'replace', path: '/list/1', value: 1 }, { op: 'add', path: '/list/2', value: 1 }, { op: 'add', path: '/text/x', value: 1 },
    { op: 'add', path: '/x' }, { op: 'add', path: 'x', value: 1 }, { op: 'add', path: '/~2', value: 1 },
    { op: 'move', from: '/list', path: '/list/0' }, { op: 'test', path: '/text', value: 'b' }, { op: 'other', path: '' },
  ]) assert.throws(() => applyPatch(before, [operation]), /does not fit/, JSON.stringify(operation));
});

test('the examples of RFC 7396', () => {
  assert.deepEqual(applyMerge(freeze({ a: 'b', b: 'c' }), { a: null }), { b: 'c' });
  assert.deepEqual(applyMerge({ a: [1] }, { a: 1 }), { a: 1 });
  assert.deepEqual(applyMerge({}, { a: { bb: { ccc: null } } }), { a: { bb: {} } });
  assert.deepEqual(applyMerge({ a: 'b' }, ['c']), ['c']);
});

test('share keeps what has not changed', () => {
  const before = freeze([{ id: 1 }, { id: 2 }]);
  assert.equal(share(before, freeze([{ id: 1 }, { id: 2 }])), before);
  const after = share(before, freeze([{ id: 0 }, { id: 1 }, { id: 2 }]));
  assert.deepEqual(after, [{ id: 0 }, { id: 1 }, { id: 2 }]);
  assert.equal(after[1], before[0]);
  assert.equal(after[2], before[1]);
  assert.deepEqual(share(freeze([1, 2, 3]), freeze([1, 3])), [1, 3]);
});

test('share gives a document equal to the new one, whatever the two are', () => {
  let seed = 1;
  const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const make = (depth) => {
    const kind = random(depth ? 6 : 4);
    if (kind < 4) return [null, true, random(3), String(random(3))][kind];
    const items = Array.from({ length: random(5) }, () => make(depth - 1));
    return kind === 4 ? items : Object.fromEntries(items.map((item) => ['abc__proto__'.slice(0, 1 + random(3)), item]));
  };
  for (let i = 0; i < 20000; i++) {
    const before = freeze(make(3)), after = freeze(make(3)), text = JSON.stringify(after);
    assert.equal(JSON.stringify(share(before, after)), text);
    const again = share(after, JSON.parse(text));
    assert.equal(again, after);
  }
});

test('a value that is no plain object is a value', () => {
  class Amount {
    constructor(text) {
      this.text = text;
    }
  }
  for (const make of [(n) => new Date(n), (n) => new Set([n]), (n) => new Map([[n, n]]), (n) => new Amount(n)]) {
    const [before, after] = [make(1), make(2)], name = before.constructor.name;
    assert.equal(share(before, after), after, name);
    assert.equal(share({ a: before, b: [1] }, { a: after, b: [1] }).a, after, name);
    assert.equal(applyMerge({ a: before }, { a: after }).a, after, name);
    assert.equal(applyPatch({ a: before }, [{ op: 'replace', path: '/a', value: after }]).a, after, name);
    assert.throws(() => applyPatch({ a: before }, [{ op: 'test', path: '/a', value: after }]), name);
  }
});
