import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventParser } from '../src/events.js';

const stream = ': heartbeat 15\r\nretry: 2000\rretry: 1x\nid: a-1\nevent: patch\ndata: [1,\r\ndata:2]\n\n' +
  'event: lost\n\nid: b\0c\ndata\n\nid: a-1\n\n:\nid\ndata:  x: y\n\ndata: unfinished\n';
const expected = [
  ['comment', 'heartbeat 15'], ['retry', 2000], ['event', 'patch', '[1,\n2]', 'a-1'],
  ['event', 'message', '', 'a-1'], ['id'], ['comment', ''], ['event', 'message', ' x: y', ''],
];

function parse(chunks) {
  const seen = [];
  const push = eventParser({
    _event: (...event) => seen.push(['event', ...event]),
    _id: () => seen.push(['id']),
    _comment: (text) => seen.push(['comment', text]),
    _retry: (milliseconds) => seen.push(['retry', milliseconds]),
  });
  chunks.forEach(push);
  return seen;
}

test('the whole stream at once', () => assert.deepEqual(parse([stream]), expected));

test('cut in two at each place', () => {
  for (let i = 0; i <= stream.length; i++) assert.deepEqual(parse([stream.slice(0, i), stream.slice(i)]), expected, `cut at ${i}`);
});

test('a character at a time', () => assert.deepEqual(parse([...stream]), expected));
