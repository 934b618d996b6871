// The scripts in README do what it says.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import vm from "node:vm";
import { browser, site } from "./browser.js";
import { until } from "./support.js";

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const snippet = (language, text) => [...readme.matchAll(/```(\w+)\n([\s\S]*?)```/g)].find(([, name, code]) => name === language && code.includes(text))[2];

test("README's script without the client follows, copies what it changes, and reopens", () => {
  const script = snippet("js", "new EventSource");
  const opened = [], timers = [];
  let shown;
  class EventSource {
    static CLOSED = 2;
    readyState = 1;
    listeners = {};
    constructor(url) {
      assert.equal(url, "/api/quotes");
      opened.push(this);
    }
    addEventListener(name, listener) {
      this.listeners[name] = listener;
    }
  }
  vm.runInNewContext(script, { EventSource, console: { log() {} }, setTimeout: (run) => timers.push(run), render: (doc) => (shown = doc) });
  const send = (name, data) => opened.at(-1).listeners[name]({ data: JSON.stringify(data) });
  const text = () => JSON.parse(JSON.stringify(shown));

  send("snapshot", { list: [1, 2, 3], "a/b": { "m~n": 1 }, gone: true, kept: {} });
  assert.deepEqual(text(), { list: [1, 2, 3], "a/b": { "m~n": 1 }, gone: true, kept: {} });
  const before = shown, was = JSON.stringify(before);
  send("patch", [
    { op: "remove", path: "/gone" },
    { op: "replace", path: "/a~1b/m~0n", value: 2 },
    { op: "add", path: "/list/0", value: 0 },
    { op: "remove", path: "/list/2" },
    { op: "move", from: "/list/2", path: "/list/0" },
    { op: "add", path: "/new", value: null },
  ]);
  assert.deepEqual(text(), { list: [3, 0, 1], "a/b": { "m~n": 2 }, new: null, kept: {} });
  assert.equal(JSON.stringify(before), was, "what was shown before is not written to");
  assert.notEqual(shown, before);
  assert.equal(shown.kept, before.kept);
  send("patch", [{ op: "replace", path: "", value: [7] }]);
  assert.deepEqual(text(), [7]);
  send("patch", [{ op: "add", path: "/1", value: [] }]);
  assert.deepEqual(text(), [7, []]);
  send("status", { state: "live" });

  opened[0].readyState = 0; // it comes back by itself
  send("error", null);
  assert.equal(timers.length, 0);
  opened[0].readyState = 2;
  send("error", null);
  timers[0]();
  assert.equal(opened.length, 2);
  send("snapshot", { again: true });
  assert.deepEqual(text(), { again: true });
});

test("README's first script, and its three lines, go on after the first event", async (t) => {
  const three = `<script type="module">${snippet("js", "const quotes = live(")}\nfunction render(doc) { console.log(doc); }</script>`;
  const s = await site(t, { pages: { "first.html": snippet("html", "console.log"), "three.html": three }, directives: "rewrite /api/quotes /doc" });
  const context = await browser(t);
  for (const name of ["first", "three"]) {
    s.up.version = 0;
    const page = await context.newPage(), seen = [];
    page.on("console", async (message) => seen.push(await message.args()[0]?.evaluate((doc) => doc.version)));
    await page.goto(`${s.origin}/${name}.html`);
    for (let n = 0; n <= 3; n++) {
      s.up.version = n;
      await until(`version ${n} in ${name}`, () => seen.at(-1) === n);
    }
    await page.close();
  }
});
