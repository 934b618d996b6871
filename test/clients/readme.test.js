// The script in README keeps a document up to date.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import vm from "node:vm";

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");

test("README's script follows snapshots and patches", () => {
  const script = readme.match(/```js\n([\s\S]*?)```/)[1];
  const listeners = {};
  let shown;
  class EventSource {
    constructor(url) {
      assert.equal(url, "/api/quotes");
    }
    addEventListener(name, listener) {
      listeners[name] = listener;
    }
  }
  vm.runInNewContext(script, { EventSource, console: { log() {} }, render: (doc) => (shown = JSON.stringify(doc)) });
  const send = (name, data) => listeners[name]({ data: JSON.stringify(data) });

  send("snapshot", { list: [1, 2, 3], "a/b": { "m~n": 1 }, gone: true });
  assert.deepEqual(JSON.parse(shown), { list: [1, 2, 3], "a/b": { "m~n": 1 }, gone: true });
  send("patch", [
    { op: "remove", path: "/gone" },
    { op: "replace", path: "/a~1b/m~0n", value: 2 },
    { op: "add", path: "/list/0", value: 0 },
    { op: "remove", path: "/list/2" },
    { op: "move", from: "/list/2", path: "/list/0" },
    { op: "add", path: "/new", value: null },
  ]);
  assert.deepEqual(JSON.parse(shown), { list: [3, 0, 1], "a/b": { "m~n": 2 }, new: null });
  send("patch", [{ op: "replace", path: "", value: [7] }]);
  assert.deepEqual(JSON.parse(shown), [7]);
  send("patch", [{ op: "add", path: "/1", value: [] }]);
  assert.deepEqual(JSON.parse(shown), [7, []]);
  send("status", { state: "live" });
});
