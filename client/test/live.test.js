import assert from 'node:assert/strict';
import { test } from 'node:test';
import '../src/numbers.js'; // it is loaded when it is asked for
import { LiveError, live } from '../src/index.js';
import { Server, address, clock, event, live as statusLive, opening, patch, settle, snapshot, version } from './support.js';

async function begin(t, data = { n: 0 }, options = {}) {
  const tick = clock(t), server = new Server(), errors = [];
  const url = address(), quotes = live(url, { fetch: server.fetch, onerror: (error) => errors.push(error), ...options });
  t.after(() => quotes.close());
  const told = [];
  quotes.subscribe((doc, change) => told.push([doc, change]));
  await settle();
  if (data !== null) server.last.stream(opening + statusLive + snapshot(data, 0));
  await settle();
  return { tick, server, quotes, told, errors, url };
}

test('a snapshot, then patches, by one request', async (t) => {
  const { server, quotes, told } = await begin(t, { a: { n: 1 }, list: [1] });
  assert.deepEqual(told, [[{ a: { n: 1 }, list: [1] }, { type: 'snapshot', previous: undefined, id: version(0) }]]);
  server.last.send(patch([{ op: 'add', path: '/list/1', value: 2 }], 1));
  await settle();
  assert.deepEqual(quotes.data, { a: { n: 1 }, list: [1, 2] });
  assert.equal(quotes.data.a, told[0][0].a);
  assert.deepEqual(told[1][1], { type: 'patch', patch: [{ op: 'add', path: '/list/1', value: 2 }], previous: told[0][0], id: version(1) });
  assert.equal(quotes.id, version(1));
  assert.equal(quotes.status.state, 'live');
  assert.equal(quotes.status.transport, 'stream');
  assert.ok(quotes.status.validated instanceof Date && quotes.status.since instanceof Date);
  assert.equal(server.requests.length, 1);
  assert.deepEqual(await quotes.ready, quotes.data);
});

test('nothing is asked for before somebody subscribes', async (t) => {
  clock(t);
  const server = new Server(), quotes = live(address(), { fetch: server.fetch });
  await settle();
  assert.equal(server.requests.length, 0);
  const ready = quotes.ready;
  await settle();
  server.last.stream(opening + statusLive + snapshot([1], 0));
  assert.deepEqual(await ready, [1]);
  quotes.close();
});

test('one chunk is told once, with all of its changes', async (t) => {
  const { server, told } = await begin(t);
  server.last.send([1, 2, 3].map((n) => patch([{ op: 'replace', path: '/n', value: n }], n)).join(''));
  await settle();
  assert.equal(told.length, 2);
  const [doc, change] = told[1];
  assert.deepEqual(doc, { n: 3 });
  assert.equal(change.type, 'batch');
  assert.deepEqual(change.changes.map(({ id }) => id), [1, 2, 3].map(version));
  assert.equal(change.previous, told[0][0]);
});

test('a late reader is told of a snapshot and forty patches once', async (t) => {
  const { server, told, quotes } = await begin(t, null);
  server.last.stream(opening + statusLive + snapshot({ n: 0 }, 0) + Array.from({ length: 40 }, (_, n) => patch([{ op: 'replace', path: '/n', value: n }], n + 1)).join(''));
  await settle();
  assert.equal(told.length, 1);
  assert.deepEqual(quotes.data, { n: 39 });
});

test('what waits to be told is bounded', async (t) => {
  const runs = [];
  const { server, told } = await begin(t, { n: 0 }, { notify: (run) => runs.push(run) });
  for (let n = 1; n <= 500; n++) server.last.send(patch([{ op: 'replace', path: '/n', value: n }], n));
  await settle();
  assert.equal(told.length, 0);
  assert.equal(runs.length, 1);
  runs[0]();
  assert.equal(told.length, 1);
  assert.deepEqual(told[0][0], { n: 500 });
  assert.ok((told[0][1].changes?.length ?? 1) <= 101);
  assert.equal(told[0][1].previous, undefined);
});

test('a connection that breaks resumes by id, and no banner shows before three seconds', async (t) => {
  const { server, quotes, tick, told } = await begin(t);
  server.last.break();
  await tick(2500);
  assert.equal(quotes.status.state, 'live');
  assert.ok(server.requests.length > 1);
  assert.equal(server.last.url.searchParams.get('last_event_id'), version(0));
  assert.equal(server.last.headers.get('last-event-id'), null);
  await tick(1000);
  assert.equal(quotes.status.state, 'connecting');
  server.last.stream(`${opening}id: ${version(0)}\n\n${statusLive}`);
  await settle();
  assert.equal(quotes.status.state, 'live');
  assert.equal(told.length, 1);
});

test('a clean end resumes after its retry', async (t) => {
  const { server, tick, quotes } = await begin(t);
  server.last.send('retry: 50\n\n');
  server.last.end();
  await settle();
  assert.equal(server.requests.length, 1);
  await tick(50);
  assert.equal(server.requests.length, 2);
  assert.equal(quotes.status.state, 'live');
});

test('statuses', async (t) => {
  for (const status of [404, 429, 500, 502, 503, 504, 204]) {
    await t.test(`${status}, then a stream`, async (t) => {
      const { server, quotes, tick, errors } = await begin(t, null);
      server.last.answer(status === 204 ? 204 : status, null, status === 503 ? { 'retry-after': '7' } : {});
      await tick(status === 503 ? 6900 : 400);
      assert.equal(server.requests.length, 1);
      assert.equal(quotes.status.state, 'connecting');
      assert.ok(quotes.status.retryAt instanceof Date);
      await tick(3000);
      assert.equal(server.requests.length, 2);
      server.last.stream(opening + statusLive + snapshot(1, 1));
      await settle();
      assert.equal(quotes.data, 1);
      assert.equal(quotes.status.state, 'live');
      assert.equal(quotes.status.error, undefined);
      assert.deepEqual(errors.map(({ kind, fatal }) => [kind, fatal]), [['http', false]]);
      assert.equal(errors[0].status, status);
    });
  }
  await t.test('a login page with 200', async (t) => {
    const { server, quotes, tick, errors } = await begin(t, null);
    server.last.answer(200, '<html>', { 'content-type': 'text/html' });
    await tick(2500);
    assert.equal(errors[0].kind, 'type');
    server.last.stream(opening + statusLive + snapshot(1, 1));
    await settle();
    assert.equal(quotes.data, 1);
  });
  // 406: below a tree, what never was a document.
  for (const status of [401, 403, 406]) {
    await t.test(`${status}, then reconnect()`, async (t) => {
      const { server, quotes, tick, errors } = await begin(t);
      server.last.break();
      await tick(2500);
      server.last.answer(status);
      await tick(120000);
      assert.equal(server.requests.length, 2);
      assert.equal(quotes.status.state, 'failed');
      assert.deepEqual([errors.at(-1).kind, errors.at(-1).fatal, errors.at(-1).status], ['denied', true, status]);
      assert.deepEqual(quotes.data, { n: 0 });
      quotes.reconnect();
      await settle();
      assert.equal(quotes.status.state, 'connecting');
      server.last.stream(`${opening}id: ${version(0)}\n\n${statusLive}`);
      await settle();
      assert.equal(quotes.status.state, 'live');
    });
  }
});

test('denied in a stream is final', async (t) => {
  const { server, quotes, tick, errors } = await begin(t);
  server.last.send(event('status', { state: 'denied', since: '2026-01-02T03:04:05.000Z', reason: 'forbidden' }));
  server.last.end();
  await tick(60000);
  assert.equal(server.requests.length, 1);
  assert.equal(quotes.status.state, 'failed');
  assert.equal(errors[0].kind, 'denied');
});

test('refused waits for the long retry', async (t) => {
  const { server, quotes, tick, errors } = await begin(t, null);
  server.last.stream(`retry: 40000\n\n${event('status', { state: 'refused', since: '2026-01-02T03:04:05.000Z', reason: 'too_many_streams' })}`).end();
  await tick(39500);
  assert.equal(server.requests.length, 1);
  assert.equal(quotes.status.state, 'connecting');
  assert.equal(errors[0].kind, 'refused');
  await tick(1000);
  assert.equal(server.requests.length, 2);
});

test('stale and its reason', async (t) => {
  const { server, quotes } = await begin(t), seen = [];
  quotes.onStatus(({ state, reason }) => seen.push([state, reason]));
  server.last.send(event('status', { state: 'stale', since: '2026-01-02T03:04:05.000Z', reason: 'timeout' }));
  await settle();
  server.last.send(statusLive);
  await settle();
  assert.deepEqual(seen, [['live', undefined], ['stale', 'timeout'], ['live', undefined]]);
  assert.equal(quotes.status, quotes.status);
});

test('silence means a new stream, after a look at the document', async (t) => {
  const { server, quotes, tick, errors } = await begin(t);
  await tick(37000);
  assert.equal(server.requests.length, 1);
  await tick(1000);
  assert.equal(server.requests.length, 2);
  assert.equal(server.last.isStream, false);
  assert.equal(server.last.headers.get('if-none-match'), `"${version(0)}"`);
  server.last.answer(304);
  await settle();
  assert.equal(server.last.isStream, true);
  assert.equal(server.last.url.searchParams.get('last_event_id'), version(0));
  assert.equal(errors[0].kind, 'silent');
  assert.equal(quotes.status.state, 'live');
});

test('a heartbeat that the server names', async (t) => {
  const { server, tick } = await begin(t, null);
  server.last.stream(`retry: 3000\n\n: heartbeat 2\n\n${statusLive}${snapshot(1, 1)}`);
  for (let i = 0; i < 5; i++) {
    await tick(3000);
    server.last.send(':\n\n');
  }
  assert.equal(server.requests.length, 1);
  await tick(5500);
  assert.equal(server.requests.length, 2);
});

test('a stream that is held back falls to long polls', async (t) => {
  for (const begun of ['', `${opening}${statusLive}event: snapshot\nid: ${version(0)}\ndata: {"big":"${'x'.repeat(100000)}`]) {
    await t.test(begun ? 'in the middle of the document' : 'before its first byte', async (t) => {
      const { server, quotes, tick, errors } = await begin(t, null);
      if (begun) server.last.stream(begun);
      await tick(4000);
      assert.equal(server.requests.length, 2);
      server.last.answer(200, '{"n":1}', { etag: `"${version(1)}"` });
      await settle();
      assert.deepEqual(quotes.data, { n: 1 });
      assert.deepEqual(errors, []);
      await tick(2000);
      assert.equal(errors[0].kind, 'buffered');
      assert.ok(server.streams[0].aborted);
      await tick(4000);
      assert.deepEqual([quotes.status.state, quotes.status.transport], ['live', 'long-poll']);
      assert.equal(server.requests.length, 3);
      assert.equal(server.last.headers.get('prefer'), 'wait=30');
      assert.equal(server.last.headers.get('if-none-match'), `"${version(1)}"`);
      await tick(5000);
      server.last.answer(200, '{"n":2}', { etag: `W/"${version(2)}-gzip"`, 'preference-applied': 'wait=30' });
      await settle();
      assert.deepEqual(quotes.data, { n: 2 });
      assert.equal(quotes.id, version(2));
      assert.equal(quotes.status.transport, 'long-poll');
      assert.equal(quotes.status.state, 'live');
      // and back, after ten minutes
      for (let i = 0; i < 21; i++) {
        await tick(29000);
        if (!server.last.isStream) server.last.answer(304, null, { 'preference-applied': 'wait=30' });
        await settle();
      }
      assert.equal(server.last.isStream, true);
      assert.equal(server.last.url.searchParams.get('last_event_id'), version(2));
      server.last.stream(`${opening}id: ${version(2)}\n\n${statusLive}${patch([{ op: 'replace', path: '/n', value: 3 }], 3)}`);
      await settle();
      assert.deepEqual(quotes.data, { n: 3 });
      assert.equal(quotes.status.transport, 'stream');
    });
  }
});

test('a slow link is not taken for a proxy', async (t) => {
  const { server, tick, quotes, errors } = await begin(t, null);
  server.last.stream(`${opening}${statusLive}event: snapshot\nid: ${version(0)}\ndata: "`);
  for (let i = 0; i < 10; i++) {
    await tick(3000);
    server.streams[0].send('x');
  }
  await tick(4500);
  assert.equal(server.requests.length, 2);
  server.last.answer(200, '"x"', { etag: `"${version(1)}"` });
  await tick(1000);
  server.streams[0].send('x"\n\n');
  await tick(20000);
  assert.deepEqual(errors, []);
  assert.equal(quotes.data, 'x'.repeat(11));
  assert.equal(server.streams.length, 1);
});

test('a network that is down is not taken for a proxy', async (t) => {
  const { server, tick, quotes, errors } = await begin(t, null);
  await tick(4000);
  assert.equal(server.requests.length, 2);
  server.last.fail();
  await tick(1500);
  assert.equal(errors[0].kind, 'network');
  assert.equal(server.last.isStream, true);
  await tick(4000);
  await tick(15500); // the answer hangs as well
  assert.equal(errors[1].kind, 'silent');
  assert.equal(quotes.data, undefined);
  for (const request of server.requests) assert.equal(request.headers.get('prefer'), null);
});

test('a server that does not hold requests is polled', async (t) => {
  const { server, tick, quotes } = await begin(t, null, { transport: 'long-poll', interval: 2000 });
  server.last.answer(200, '1', { etag: '"a"' });
  await settle();
  assert.equal(server.requests.length, 2);
  server.last.answer(304);
  await tick(1900);
  assert.equal(server.requests.length, 2);
  assert.equal(quotes.status.transport, 'poll');
  await tick(100);
  assert.equal(server.requests.length, 3);
  assert.equal(server.streams.length, 0);
});

test('a server without versions is polled', async (t) => {
  const { server, tick, told } = await begin(t, null, { transport: 'long-poll', interval: 2000 });
  for (const text of ['1', '1', '2']) {
    server.last.answer(200, text);
    await tick(2000);
  }
  assert.equal(server.requests.length, 4);
  assert.deepEqual(told.map(([doc]) => doc), [1, 2]);
});

test('a stale document by poll says so', async (t) => {
  const { server, quotes } = await begin(t, null, { transport: 'poll' });
  server.last.answer(200, '1', { etag: '"a"', 'cache-status': 'poll_sse; hit; ttl=-3; detail=unreachable', age: '9' });
  await settle();
  assert.deepEqual([quotes.status.state, quotes.status.reason], ['stale', 'unreachable']);
  assert.equal(server.last.headers.get('prefer'), null);
});

test('a patch that does not fit fetches once and reports', async (t) => {
  const { server, tick, errors, quotes } = await begin(t);
  server.last.send(patch([{ op: 'replace', path: '/none', value: 1 }], 1));
  await tick(0);
  assert.equal(errors.length, 1);
  assert.equal(errors[0].kind, 'data');
  assert.ok(errors[0].cause);
  assert.equal(server.requests.length, 2);
  assert.equal(server.last.url.searchParams.get('last_event_id'), null);
  assert.deepEqual(quotes.data, { n: 0 });
  server.last.stream(opening + statusLive + snapshot({ n: 1 }, 1));
  await settle();
  assert.deepEqual(quotes.data, { n: 1 });
  assert.equal(quotes.stats.resyncs, 1);
});

test('patches that never fit end in no loop', async (t) => {
  const { server, tick } = await begin(t);
  for (let second = 0; second < 60; second++) {
    const request = server.last;
    if (!request.send) request.stream(opening + statusLive + snapshot({ n: 1 }, 1));
    try {
      request.send(patch([{ op: 'remove', path: '/none' }], 2));
    } catch {} // aborted
    await tick(1000);
  }
  assert.ok(server.requests.length < 20, `${server.requests.length} requests in a minute`);
});

test('a snapshot keeps what has not changed', async (t) => {
  const { server, quotes } = await begin(t, { a: { n: 1 }, b: 1 });
  const { a } = quotes.data;
  server.last.send(snapshot({ a: { n: 1 }, b: 2 }, 1));
  await settle();
  assert.equal(quotes.data.b, 2);
  assert.equal(quotes.data.a, a);
});

test('the first event of a page that was rendered on the server is a patch', async (t) => {
  const data = { rows: [{ id: 1, n: 1 }, { id: 2, n: 1 }] };
  const { server, quotes, told } = await begin(t, null, { initial: { textContent: JSON.stringify(data), dataset: { id: version(1) } } });
  assert.deepEqual(told, [[data, undefined]]);
  assert.equal(server.last.url.searchParams.get('last_event_id'), version(1));
  const before = quotes.data;
  server.last.stream(`${opening}id: ${version(1)}\n\n${statusLive}${patch([{ op: 'replace', path: '/rows/0/n', value: 2 }], 2)}`);
  await settle();
  assert.equal(quotes.stats.snapshots, 0);
  assert.equal(quotes.data.rows[1], before.rows[1]);
  assert.equal(quotes.data.rows[0].n, 2);
});

test('the same URL and options have one connection', async (t) => {
  const tick = clock(t), server = new Server(), url = address();
  const one = live(url, { fetch: server.fetch, headers: { a: 'b' } }), two = live(url, { fetch: server.fetch, headers: { a: 'b' } });
  const other = live(url, { fetch: server.fetch, headers: { a: 'c' } });
  const offs = [one, two, two, other].map((l) => l.subscribe(() => {}));
  await settle();
  assert.equal(server.requests.length, 2);
  for (const request of server.requests) request.stream(opening + statusLive + snapshot(1, 1));
  await settle();
  assert.equal(one.data, two.data);
  offs.slice(0, 3).forEach((off) => off());
  await tick(900);
  const off = one.subscribe(() => {});
  await tick(5000);
  assert.equal(server.requests[0].aborted, undefined);
  off();
  await tick(1000);
  assert.ok(server.requests[0].aborted);
  assert.equal(one.status.state, 'paused');
  assert.equal(server.requests[1].aborted, undefined);
  two.subscribe(() => {});
  await settle();
  assert.equal(server.requests.length, 3);
  assert.equal(server.last.url.searchParams.get('last_event_id'), version(1));
  for (const l of [one, two, other]) l.close();
});

test('close() ends the subscriptions of one page part, and its connection at once', async (t) => {
  const { server, quotes, told } = await begin(t);
  const states = [];
  quotes.onStatus(({ state }) => states.push(state));
  const part = quotes.at('/n');
  part.subscribe(() => {});
  quotes.close();
  assert.ok(server.requests[0].aborted);
  assert.equal(quotes.status.state, 'closed');
  assert.deepEqual(states, ['live', 'closed']);
  assert.equal(told.length, 1);
});

test('nothing is kept of a document that nobody holds', async (t) => {
  const { quotes, url, server } = await begin(t);
  assert.deepEqual(live(url, { fetch: server.fetch }).data, { n: 0 });
  quotes.close();
  assert.equal(live(url, { fetch: server.fetch }).data, undefined);
});

test('signal closes', async (t) => {
  const stop = new AbortController(), { server, quotes } = await begin(t, 1, { signal: stop.signal });
  stop.abort();
  assert.equal(quotes.status.state, 'closed');
  assert.ok(server.requests[0].aborted);
});

test('at() and select() tell of their own part only', async (t) => {
  const { server, quotes } = await begin(t, { a: { 'x/y': 1 }, list: [{ n: 1 }, { n: 2 }] });
  const part = quotes.at('/a/x~1y'), big = quotes.select((doc) => doc.list.filter(({ n }) => n > 1)), missing = quotes.at('/none/1');
  const seen = { part: [], big: [], missing: [] };
  part.subscribe((value) => seen.part.push(value));
  big.subscribe((value) => seen.big.push(value));
  missing.subscribe((value, change) => seen.missing.push([value, change?.type]));
  server.last.send(patch([{ op: 'replace', path: '/list/0/n', value: 0 }], 1));
  await settle();
  server.last.send(patch([{ op: 'replace', path: '/a/x~1y', value: 2 }, { op: 'add', path: '/none', value: [7, 8] }], 2));
  await settle();
  assert.deepEqual(seen, { part: [1, 2], big: [[{ n: 2 }]], missing: [[undefined, undefined], [8, 'snapshot']] });
  assert.equal(big.getSnapshot(), big.getSnapshot());
  assert.equal(part.data, 2);
  assert.equal(await part.ready, 2);
});

test('for await brings the newest, and nothing is queued', async (t) => {
  const { server, quotes } = await begin(t);
  const iterator = quotes[Symbol.asyncIterator]();
  assert.deepEqual((await iterator.next()).value, { n: 0 });
  for (let n = 1; n <= 3; n++) {
    server.last.send(patch([{ op: 'replace', path: '/n', value: n }], n));
    await settle();
  }
  assert.deepEqual((await iterator.next()).value, { n: 3 });
  const next = iterator.next();
  quotes.close();
  assert.equal((await next).done, true);
});

test('for await throws what is final', async (t) => {
  const { server, quotes } = await begin(t, null);
  const next = quotes[Symbol.asyncIterator]().next();
  const ready = assert.rejects(quotes.ready, { kind: 'denied' });
  server.last.answer(403);
  await assert.rejects(next, LiveError);
  await ready;
});

test('a subscriber that throws stops nobody', async (t) => {
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  t.after(() => delete globalThis.reportError);
  const { server, quotes, told } = await begin(t);
  quotes.subscribe(() => {
    throw new Error('mine');
  });
  quotes.subscribe((doc) => told.push(doc));
  server.last.send(patch([{ op: 'replace', path: '/n', value: 1 }], 1));
  await settle();
  assert.deepEqual(told.at(-1), { n: 1 });
  assert.deepEqual(reported, ['mine', 'mine']);
});

test('headers are asked for before each request', async (t) => {
  let token = 0;
  const { server, tick } = await begin(t, 1, { headers: async () => ({ authorization: `Bearer ${++token}` }) });
  server.last.break();
  await tick(2000);
  assert.deepEqual(server.requests.map(({ headers }) => headers.get('authorization')), ['Bearer 1', 'Bearer 2']);
});

test('events with other names, and merge patches', async (t) => {
  const { server, quotes } = await begin(t, null, { events: { snapshot: 'message', merge: 'delta' } });
  server.last.stream(`${opening}${statusLive}id: ${version(1)}\ndata: {"a":1,"b":2}\n\n${event('delta', { a: null }, version(2))}`);
  await settle();
  assert.deepEqual(quotes.data, { b: 2 });
  assert.equal(quotes.id, version(2));
});

test('numbers as they were written', async (t) => {
  const text = '{"a":[12345678901234567890,1.10,7],"12":"\\u00005","s":"say \\"1\\" 2"}';
  for (const [numbers, expected] of [
    ['text', { a: ['12345678901234567890', '1.10', '7'], 12: '\u00005', s: 'say "1" 2' }],
    ['bigint', { a: [12345678901234567890n, 1.1, 7], 12: '\u00005', s: 'say "1" 2' }],
    [(source) => [source], { a: [['12345678901234567890'], ['1.10'], ['7']], 12: '\u00005', s: 'say "1" 2' }],
  ]) {
    await t.test(`${numbers}`, async (t) => {
      const { server, quotes } = await begin(t, null, { numbers });
      server.last.stream(`${opening}${statusLive}event: snapshot\nid: ${version(1)}\ndata: ${text}\n\n`);
      await settle();
      assert.deepEqual(quotes.data, expected);
      server.last.send(`event: patch\nid: ${version(2)}\ndata: [{"op":"replace","path":"/a/0","value":1.50}]\n\n`);
      await settle();
      assert.deepEqual(quotes.data.a[0], numbers === 'text' ? '1.50' : numbers === 'bigint' ? 1.5 : ['1.50']);
    });
  }
});

test('a reviver sees the parts that a patch brings under their own names', async (t) => {
  const reviver = (key, value) => (key === 'at' ? new Date(value) : value);
  const { server, quotes } = await begin(t, { at: 0, x: 1 }, { reviver, share: false });
  assert.ok(quotes.data.at instanceof Date);
  server.last.send(patch([{ op: 'replace', path: '/at', value: 5 }, { op: 'add', path: '/y', value: { at: 6 } }], 1));
  await settle();
  assert.deepEqual(quotes.data, { at: new Date(5), x: 1, y: { at: new Date(6) } });
});

test('what was sent, and what polling would have cost', async (t) => {
  const { quotes, tick, server } = await begin(t, { n: 'ä' }, { interval: 1000 });
  const { stats } = quotes;
  assert.equal(stats.bytes, Buffer.byteLength(opening + statusLive + snapshot({ n: 'ä' }, 0)));
  assert.equal(stats.pollingBytes, Buffer.byteLength('{"n":"ä"}'));
  await tick(10000);
  assert.equal(quotes.stats.pollingBytes, 11 * Buffer.byteLength('{"n":"ä"}'));
  assert.deepEqual([stats.events, stats.snapshots, stats.patches, stats.connects, stats.resyncs], [2, 1, 0, 1, 0]);
  assert.equal(server.requests.length, 1);
});

test('dates that a reviver makes are told of, in the document and in a part', async (t) => {
  const { server, quotes } = await begin(t, { at: 0 }, { reviver: (key, value) => (key === 'at' ? new Date(value) : value) });
  const told = [], days = [];
  quotes.at('/at').subscribe((at) => told.push(+at));
  quotes.select((doc) => new Set([+doc.at])).subscribe((set) => days.push(...set));
  server.last.send(snapshot({ at: 1 }, 1));
  await settle();
  server.last.send(patch([{ op: 'replace', path: '/at', value: 2 }], 2));
  await settle();
  server.last.send(event('merge', { at: 3 }, version(3)));
  await settle();
  assert.deepEqual(told, [0, 1, 2, 3]);
  assert.deepEqual(days, [0, 1, 2, 3]);
  assert.deepEqual(quotes.data, { at: new Date(3) });
});

test('who subscribes to what another part of the page follows is told at once', async (t) => {
  clock(t);
  const server = new Server(), url = address(), [one, two] = [1, 2].map(() => live(url, { fetch: server.fetch })), told = [];
  one.subscribe(() => {});
  await settle();
  server.last.stream(opening + statusLive + snapshot({ n: 1 }, 1));
  await settle();
  two.subscribe((doc) => told.push(doc));
  assert.deepEqual(told, [{ n: 1 }]);
  assert.equal(two.data, one.data);
  one.close();
  two.close();
});

for (const how of ['onerror', 'onStatus']) {
  test(`reconnect() in ${how} makes one stream`, async (t) => {
    const { server, quotes } = await begin(t, null, { onerror: ({ fatal }) => fatal && how === 'onerror' && quotes.reconnect() });
    if (how === 'onStatus') quotes.onStatus(({ state }) => state === 'failed' && quotes.reconnect());
    server.last.answer(401);
    await settle();
    assert.equal(server.requests.length, 2);
    assert.equal(quotes.status.state, 'connecting');
    server.last.stream(opening + statusLive + snapshot(1, 1));
    await settle();
    assert.equal(quotes.data, 1);
    quotes.close();
    assert.ok(server.last.aborted);
  });
}

test('no timer is longer than timers can be, as it would fire at once', async (t) => {
  const { server, tick } = await begin(t, { n: 0 }, { silence: Infinity });
  const real = setTimeout, delays = [];
  t.mock.method(globalThis, 'setTimeout', (run, delay) => {
    delays.push(delay);
    return real(run, delay);
  });
  server.last.send(':\n\n');
  await settle();
  server.last.break();
  await tick(2500);
  server.last.answer(503, null, { 'retry-after': '31536000' });
  await settle();
  assert.ok(delays.length > 2);
  assert.deepEqual(delays.filter((delay) => delay > 2 ** 31 - 1), []);
});
