// The built files are those of the sources, small enough, and all that the package promises.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync, gzipSync } from 'node:zlib';
import { buildAll } from '../build.js';

const here = fileURLToPath(new URL('..', import.meta.url));
const dist = join(here, 'dist');
const folder = (t) => {
  const path = mkdtempSync(join(tmpdir(), 'poll-sse-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
};

test('dist is what the sources build: npm run build makes it', async (t) => {
  const fresh = folder(t);
  await buildAll(fresh);
  assert.deepEqual(readdirSync(dist).sort(), readdirSync(fresh).sort());
  // Another release of the compressor may write other bytes for the same text.
  const text = (folder, file) => (file.endsWith('.br') ? brotliDecompressSync(readFileSync(join(folder, file))) : readFileSync(join(folder, file))).toString();
  for (const file of readdirSync(fresh)) assert.equal(text(dist, file), text(fresh, file), file);
});

test('sizes', () => {
  const gzipped = (file) => gzipSync(readFileSync(join(dist, file)), { level: 9 }).length;
  for (const [file, most] of [['client.js', 6 * 1024], ['react.js', 500], ['vue.js', 500], ['solid.js', 500], ['element.js', 500]]) {
    const size = gzipped(file);
    console.log(`${file}: ${size} bytes gzip`);
    assert.ok(size <= most, `${file} is ${size} bytes, at most ${most}`);
  }
});

test('the declarations compile, and hold what a page writes', (t) => {
  execFileSync(process.execPath, [join(here, 'node_modules/typescript/bin/tsc'), '-p', join(here, 'test/types')], { stdio: 'pipe', encoding: 'utf8' });
  assert.ok(t);
});

test('the package has what its exports name', (t) => {
  const [{ filename, files }] = JSON.parse(execFileSync('npm', ['pack', '--json', '--pack-destination', folder(t)], { cwd: here, encoding: 'utf8' }));
  assert.match(filename, /^poll-sse-/);
  const packed = files.map(({ path }) => path);
  const { exports } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'));
  for (const target of Object.values(exports).flatMap((value) => Object.values(typeof value === 'string' ? { value } : value))) assert.ok(packed.includes(target.slice(2)), target);
  for (const path of packed) assert.ok(/^(dist\/|package\.json|README\.md|LICENSE)/.test(path), path);
});

test('the built client runs in Node', async () => {
  const { live, applyPatch, applyMerge, share, LiveError } = await import(join(dist, 'client.js'));
  assert.deepEqual(applyPatch({ a: 1 }, [{ op: 'replace', path: '/a', value: 2 }]), { a: 2 });
  assert.deepEqual(applyMerge({ a: 1 }, { a: null }), {});
  assert.deepEqual(share([1], [1]), [1]);
  assert.equal(new LiveError('denied', '').fatal, true);
  const text = 'event: snapshot\nid: 1\ndata: {"n":1.10}\n\n';
  const quotes = live('http://server.test/built', { numbers: 'text', fetch: async () => new Response(new ReadableStream({ start: (c) => c.enqueue(new TextEncoder().encode(text)) }), { headers: { 'content-type': 'text/event-stream' } }) });
  assert.deepEqual(await quotes.ready, { n: '1.10' });
  quotes.close();
  assert.equal(quotes.status.state, 'closed');
});
