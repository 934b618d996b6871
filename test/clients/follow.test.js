// Unmodified clients follow a stream to the right document, through a cut in
// the middle.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import test, { describe } from "node:test";
import { fileURLToPath } from "node:url";
import { EventSource } from "eventsource";
import { Page, caddy, cutter, freePort, until, upstream } from "./support.js";

const interval = 200;
const bin = (name) => fileURLToPath(new URL(`node_modules/.bin/${name}`, import.meta.url));

async function site(t) {
  const up = await upstream(t);
  const port = await freePort();
  await caddy(t, {
    port,
    text: `{
	admin off
	persist_config off
}
http://:${port} {
	poll_sse /doc ${up.url} {
		interval ${interval}ms
		retry 100ms
	}
	respond /ready 200
}
`,
  });
  const cut = await cutter(t, port);
  return { up, cut, url: `http://127.0.0.1:${cut.port}/doc` };
}

// follow changes the document, cuts the connections in the middle, and expects
// the page to have every version in the end.
async function follow({ up, cut }, page, reconnect = () => {}) {
  const reaches = (version) => until(`version ${version}, there is ${JSON.stringify(page.document)?.slice(0, 60)}`, () => page.document?.version === version);
  await reaches(0);
  for (let n = 1; n <= 12; n++) {
    up.version = n;
    if (n === 6) {
      const before = cut.requests.length;
      cut.now();
      reconnect();
      const request = await until("a request to resume", () => cut.requests.slice(before).find((text) => /^GET/.test(text)));
      assert.match(request, /(\r\nlast-event-id: |\?last_event_id=)[\w-]{22}\b/i);
    }
    await reaches(n);
    assert.deepEqual(page.document, up.document());
  }
  assert.equal(page.snapshots, 1, "a client that returns needs no snapshot");
  assert.ok(page.patches >= 12);
  const most = (Date.now() - up.begun) / interval + 2;
  assert.ok(up.requests <= most, `${up.requests} requests, at most ${most}`);
}

// All at once, as most of their time is waiting.
describe("clients that follow", { concurrency: true }, () => {
  test("eventsource", async (t) => {
    const s = await site(t);
    const page = new Page();
    const source = new EventSource(s.url);
    t.after(() => source.close());
    for (const name of ["snapshot", "patch"]) source.addEventListener(name, (e) => page.take(name, e.data, e.lastEventId));
    await follow(s, page);
  });

  test("@microsoft/fetch-event-source", async (t) => {
    // It is made for browsers: these are all that it looks for.
    globalThis.window = globalThis;
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
    const { fetchEventSource } = await import("@microsoft/fetch-event-source");
    const s = await site(t);
    const page = new Page();
    const stop = new AbortController();
    // Unlike EventSource it comes back from a clean end only where it is told to.
    const onclose = () => {
      throw new Error("come back");
    };
    const failed = fetchEventSource(s.url, { signal: stop.signal, onmessage: (e) => page.take(e.event, e.data, e.id), onclose, onerror() {} });
    t.after(() => stop.abort());
    await Promise.race([follow(s, page), failed.then(() => assert.fail("it ended"))]);
  });

  for (const [name, command] of Object.entries({ Node: [process.execPath], Deno: [bin("deno"), "run", "--no-lock", "--allow-net", "--allow-read"], Bun: [bin("bun")] })) {
    test(`poll-sse in ${name}`, async (t) => {
      const s = await site(t);
      const [file, ...args] = [...command, fileURLToPath(new URL("runtime.js", import.meta.url)), s.url, "12"];
      const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
      t.after(() => child.kill());
      const ended = new Promise((resolve) => child.on("exit", resolve));
      const page = {}, states = [];
      let errors = "";
      child.stderr.on("data", (data) => (errors += data));
      createInterface({ input: child.stdout }).on("line", (line) => {
        const { document, stats, exact, state } = JSON.parse(line);
        if (document) Object.assign(page, { document }, stats);
        if (exact) page.exact = exact;
        if (state) states.push(state);
      });
      await follow(s, page);
      assert.equal(await ended, 0, `it ends by itself: ${errors}`);
      assert.deepEqual([page.resyncs, page.exact, errors], [0, "12", ""]);
      assert.deepEqual([states[0], states.at(-1)], ["connecting", "closed"]);
      assert.ok(states.includes("live"));
    });
  }

  for (const compressed of [false, true]) {
    test(`curl -N${compressed ? " --compressed" : ""}`, async (t) => {
      const s = await site(t);
      const page = new Page();
      let child;
      const start = () => {
        const headers = ["-H", "Accept: text/event-stream", ...(page.id ? ["-H", `Last-Event-ID: ${page.id}`] : [])];
        child = spawn("curl", ["-sN", ...(compressed ? ["--compressed"] : []), ...headers, s.url]);
        let text = "";
        child.stdout.on("data", (data) => {
          const events = (text += data).split("\n\n");
          text = events.pop();
          for (const event of events) {
            const field = (name) => event.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
            page.take(field("event"), field("data"), field("id"));
          }
        });
      };
      start();
      t.after(() => child.kill());
      await follow(s, page, () => {
        child.kill();
        start();
      });
    });
  }
});
