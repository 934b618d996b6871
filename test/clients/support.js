// What the client tests share: a real Caddy with the module, an upstream whose
// document changes on command, and a proxy that cuts connections.
import { spawn, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));

let built;
function caddyBinary() {
  if (!built) {
    built = process.env.CADDY_BIN ?? join(mkdtempSync(join(tmpdir(), "poll-sse-")), "caddy");
    if (!process.env.CADDY_BIN) execFileSync("go", ["build", "-o", built, "./cmd/caddy"], { cwd: root, stdio: "inherit" });
  }
  return built;
}

const listen = (server) => new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

// freePort is a port that was free a moment ago.
export async function freePort() {
  const server = net.createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

// until waits for a condition, with a deadline for a loaded machine.
export async function until(what, condition, seconds = 60) {
  for (const end = Date.now() + seconds * 1000; ; await new Promise((resolve) => setTimeout(resolve, 20))) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not in ${seconds} s: ${what}`);
  }
}

// upstream serves a document and counts the requests for it.
export async function upstream(t) {
  const up = { version: 0, requests: 0, begun: Date.now() };
  // A row is edited with each version, and now and then the oldest goes for a new one.
  const row = (id) => ({ id, name: `row ${id} of a table that mostly stays`, price: id === up.version ? 1 : 0 });
  up.document = () => ({ version: up.version, rows: Array.from({ length: 20 }, (_, i) => row(i + (up.version >> 2))) });
  const server = http.createServer((request, response) => {
    up.requests++;
    response.setHeader("Content-Type", "application/json");
    response.statusCode = up.status?.(request) ?? 200;
    response.end(up.text?.() ?? JSON.stringify(up.document(request)));
  });
  up.url = `http://127.0.0.1:${await listen(server)}/doc.json`;
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return up;
}

// caddy starts the built server and waits until it answers.
export async function caddy(t, { config, text, port, env = {} }) {
  const dir = mkdtempSync(join(tmpdir(), "poll-sse-"));
  if (text) writeFileSync((config = join(dir, "Caddyfile")), text);
  const child = spawn(caddyBinary(), ["run", "--config", config, "--adapter", "caddyfile"], {
    cwd: root,
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir, ...env },
  });
  let log = "";
  child.stderr.on("data", (data) => (log = (log + data).slice(-20_000)));
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const stop = () => {
    child.kill("SIGTERM");
    return ended;
  };
  t.after(async () => {
    await stop();
    rmSync(dir, { recursive: true, force: true });
  });
  await until(`Caddy answers; its log: ${log}`, async () => {
    if (child.exitCode !== null) throw new Error(`Caddy ended: ${log}`);
    return fetch(`http://127.0.0.1:${port}/ready`).then(() => true, () => false);
  });
  return { stop };
}

// server starts another server in the foreground, with its files in a folder,
// and waits until its port accepts connections.
export async function server(t, files, port, command) {
  const dir = mkdtempSync(join(tmpdir(), "server-"));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text.replaceAll("DIR", dir));
  const [file, ...args] = command.map((arg) => arg.replaceAll("DIR", dir));
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` } });
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (log = (log + data).slice(-20_000)));
  const ended = new Promise((resolve) => child.on("exit", resolve));
  t.after(async () => {
    child.kill("SIGTERM");
    await ended;
    rmSync(dir, { recursive: true, force: true });
  });
  await until(`${file} listens`, () => {
    if (child.exitCode !== null) throw new Error(`${file} ended: ${log}`);
    return new Promise((resolve) => {
      const socket = net.connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
      socket.on("connect", () => socket.destroy());
    });
  });
}

// cutter is a TCP proxy whose connections can all be cut.
export async function cutter(t, port) {
  const open = new Set();
  const cut = { requests: [] };
  let paused = false;
  const server = net.createServer((client) => {
    const server = net.connect(port, "127.0.0.1");
    for (const [from, to] of [[client, server], [server, client]]) {
      open.add(from);
      from.on("error", () => {}).on("close", () => {
        open.delete(from);
        to.destroy();
      });
      from.go = () => from.pipe(to);
      if (!paused) from.go();
    }
    client.on("data", (data) => cut.requests.push(data.toString("latin1")));
  });
  cut.port = await listen(server);
  cut.now = () => open.forEach((socket) => socket.destroy());
  // pause lets nothing through, and accepts connections all the same.
  cut.pause = () => {
    paused = true;
    open.forEach((socket) => socket.unpipe().pause());
  };
  cut.resume = () => {
    paused = false;
    open.forEach((socket) => socket.go());
  };
  t.after(() => {
    server.close();
    cut.now();
  });
  return cut;
}

// apply applies an RFC 6902 patch, strictly.
export function apply(document, patch) {
  const box = { "": document };
  const at = (path) => {
    const keys = path.split("/").map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = keys.pop();
    const parent = keys.reduce((value, key) => {
      if (!Object.hasOwn(value, key)) throw new Error(`no ${path}`);
      return value[key];
    }, box);
    return [parent, last];
  };
  const take = ([parent, key]) => {
    if (!Object.hasOwn(parent, key)) throw new Error(`nothing at ${key}`);
    const value = parent[key];
    Array.isArray(parent) ? parent.splice(Number(key), 1) : delete parent[key];
    return value;
  };
  for (const { op, path, from, value } of patch) {
    if (op === "remove") take(at(path));
    else if (op === "add" || op === "move") {
      const added = op === "move" ? take(at(from)) : value;
      const [parent, key] = at(path);
      if (Array.isArray(parent) && Number(key) > parent.length) throw new Error(`index ${path}`);
      Array.isArray(parent) ? parent.splice(Number(key), 0, added) : (parent[key] = added);
    } else if (op === "replace") {
      const [parent, key] = at(path);
      if (!Object.hasOwn(parent, key)) throw new Error(`nothing at ${path}`);
      parent[key] = value;
    } else throw new Error(`operation ${op}`);
  }
  return box[""];
}

// page keeps what a page would keep.
export class Page {
  snapshots = 0;
  patches = 0;
  id = "";
  take(name, data, id) {
    if (id) this.id = id;
    if (name === "snapshot") {
      this.document = JSON.parse(data);
      this.snapshots++;
    } else if (name === "patch") {
      this.document = apply(this.document, JSON.parse(data));
      this.patches++;
    }
  }
}
