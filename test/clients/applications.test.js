// Applications that nobody here wrote, behind one directive: their own pages in
// Chromium, as they are, and with the shim.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { describe } from "node:test";
import { browser } from "./browser.js";
import { caddy, freePort, root, until } from "./support.js";

// program runs a server until the test ends.
async function program(t, dir, ready, file, args, env = {}) {
	const child = spawn(file, args, { cwd: dir, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, HOME: dir, ...env } });
	let log = "";
	for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (log = (log + data).slice(-5000)));
	const ended = new Promise((resolve) => child.on("exit", resolve));
	t.after(async () => {
		child.kill("SIGTERM");
		await ended;
		rmSync(dir, { recursive: true, force: true });
	});
	await until(`${file} answers`, async () => {
		if (child.exitCode !== null) throw new Error(`${file} ended: ${log}`);
		return fetch(ready).then((response) => response.status < 500, () => false);
	}, 180); // RabbitMQ takes its time on a busy machine
}

// meter passes requests on to a port and keeps what the API was asked.
async function meter(t, port, api) {
	const seen = [];
	const server = http.createServer((request, response) => {
		if (api.test(request.url)) seen.push(`${request.method} ${request.url}`);
		const out = http.request({ host: "127.0.0.1", port, path: request.url, method: request.method, headers: { ...request.headers, host: `127.0.0.1:${port}` } }, (answer) => {
			response.writeHead(answer.statusCode, answer.headers);
			answer.pipe(response);
		});
		out.on("error", () => response.destroy());
		request.pipe(out);
	});
	const at = await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
	t.after(() => {
		server.close();
		server.closeAllConnections();
	});
	return { seen, url: `http://127.0.0.1:${at}` };
}

const linger = 10; // seconds; more than any of the pages has between two polls

// front runs an example, with more directives in its site.
async function front(t, name, env, directives = "") {
	const port = await freePort();
	const text = readFileSync(join(root, "examples", name, "Caddyfile"), "utf8")
		.replace("{$PORT:8080} {\n", `{$PORT:8080} {\n\trespond /ready 200\n\t${directives}\n`)
		.replace("\t\ttree\n", `\t\ttree\n\t\tlinger ${linger}s\n`);
	await caddy(t, { text: `{\n\tadmin off\n\tpersist_config off\n}\n${text}`, port, env: { PORT: `${port}`, ...env } });
	return `http://127.0.0.1:${port}`;
}

// watch keeps what a page asks the API for, streams apart.
function watch(page, api) {
	const asked = { polls: [], streams: [], failures: [] };
	page.on("request", (request) => {
		const url = new URL(request.url());
		if (!api.test(url.pathname)) return;
		const list = /event-stream/.test(request.headers().accept ?? "") ? asked.streams : asked.polls;
		list.push(`${request.method()} ${url.pathname}${url.search}`);
	});
	page.on("pageerror", (error) => asked.failures.push(`${error}`));
	return asked;
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// settle waits until nothing is polled any more that pages read only at first.
const settle = (app, most) => until(`no more than ${most} URLs are polled`, async () => {
	const before = app.seen.length;
	await sleep(6); // an interval is 5
	return new Set(app.seen.slice(before)).size <= most;
}, 120);

const rabbit = "/usr/lib/rabbitmq/bin/rabbitmq-server";

async function rabbitmq(t) {
	const dir = mkdtempSync(join(tmpdir(), "rabbitmq-")), [port, amqp, dist] = [await freePort(), await freePort(), await freePort()];
	writeFileSync(join(dir, "rabbitmq.conf"), `listeners.tcp.1 = 127.0.0.1:${amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = ${port}\n`);
	writeFileSync(join(dir, "enabled_plugins"), "[rabbitmq_management].\n");
	await program(t, dir, `http://127.0.0.1:${port}/api/overview`, rabbit, [], {
		ERL_EPMD_ADDRESS: "127.0.0.1", RABBITMQ_NODENAME: `tree${port}@localhost`, RABBITMQ_MNESIA_BASE: join(dir, "mnesia"), RABBITMQ_LOG_BASE: join(dir, "log"),
		RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, "enabled_plugins"), RABBITMQ_CONFIG_FILE: join(dir, "rabbitmq.conf"), RABBITMQ_DIST_PORT: `${dist}`, RABBITMQ_PID_FILE: join(dir, "pid"),
	});
	return port;
}

async function openRabbit(page, site) {
	await page.goto(`${site}/`);
	const name = page.locator("input[name=username]"), overview = page.locator("h1", { hasText: "Overview" });
	await name.or(overview).first().waitFor();
	// Only the first page of a browser asks who it is. A slow one asks again, if its script was not there yet.
	await until("the overview", async () => {
		if (await name.isVisible()) {
			await name.fill("guest");
			await page.locator("input[name=password]").fill("guest");
			await page.locator("input[type=submit]").click();
		}
		return overview.waitFor({ timeout: 20_000 }).then(() => true, () => false);
	}, 180);
}

// compare lets pages poll until it is enough, and returns how often they asked,
// and how often the application was asked.
async function compare(pages, app, enough) {
	const polls = () => pages.reduce((sum, { asked }) => sum + asked.polls.length, 0);
	const before = [polls(), app.seen.length];
	await until("enough polls", () => enough(polls() - before[0]));
	return { pages: polls() - before[0], app: app.seen.length - before[1] };
}

async function open(context, api, how) {
	const page = await context.newPage();
	const asked = watch(page, api);
	await how(page);
	return { page, asked };
}

async function rabbitPages(t) {
	const port = await rabbitmq(t), api = /^\/api\//;
	const app = await meter(t, port, api);
	const overview = "/api/overview?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5";
	const login = { authorization: "Basic Z3Vlc3Q6Z3Vlc3Q=", "content-type": "application/json" };
	const queues = ({ page }, n) => until(`the page counts ${n} queues`, async () => /Queues:\s*(\d+)/.exec(await page.locator("#main").textContent())?.[1] === `${n}`);
	const add = async (site, name) => assert.equal((await fetch(`${site}/api/queues/%2F/${name}`, { method: "PUT", headers: login, body: "{}" })).status, 201);

	await t.test("as they are", async (t) => {
		const site = await front(t, "rabbitmq", { RABBITMQ: app.url, INTERVAL: "5s" });
		const context = await browser(t);
		const pages = [];
		for (let i = 0; i < 4; i++) pages.push(await open(context, api, (page) => openRabbit(page, site)));
		await settle(app, 3);
		const got = await compare(pages, app, (polls) => polls >= 24);
		t.diagnostic(`4 pages: ${got.pages} requests at the pages, ${got.app} at RabbitMQ`);
		assert.ok(got.app * 3 < got.pages * 2, JSON.stringify(got));
		await add(site, "one");
		for (const page of pages) await queues(page, 1);
		assert.deepEqual(pages.flatMap(({ asked }) => asked.failures), []);
	});

	await t.test("with the shim", async (t) => {
		const shims = [overview, "/api/nodes", "/api/vhosts"].map((url) => `shim ${url}`).join("\n");
		const site = await front(t, "rabbitmq", { RABBITMQ: app.url, INTERVAL: "5s" }, `poll_sse_client {\n${shims}\n}`);
		const one = await open(await browser(t), api, (page) => openRabbit(page, site));
		await until("the shim answers", () => one.page.evaluate(() => pollSSEShim.stats.answered >= 3));
		await sleep(6);
		const answered = await one.page.evaluate(() => pollSSEShim.stats.answered);
		const got = await compare([one], app, async () => (await one.page.evaluate(() => pollSSEShim.stats.answered)) >= answered + 6);
		t.diagnostic(`1 page: 6 polls answered without a request, ${got.pages} requests at the page, ${got.app} at RabbitMQ`);
		assert.equal(got.pages, 0, JSON.stringify(one.asked.polls));
		await add(site, "two");
		await queues(one, 2);
		assert.deepEqual(one.asked.failures, []);
	});
}

// A magnet link of nothing: it stays in the list, without a network.
const magnet = (name) => `magnet:?xt=urn:btih:${name.repeat(40)}&dn=torrent-${name}`;

const torrents = "/usr/bin/qbittorrent-nox";

async function torrentPages(t) {
	const port = await freePort(), api = /^\/api\/v2\//, dir = mkdtempSync(join(tmpdir(), "qbittorrent-"));
	mkdirSync(join(dir, "qBittorrent", "config"), { recursive: true });
	writeFileSync(join(dir, "qBittorrent", "config", "qBittorrent.conf"), "[LegalNotice]\nAccepted=true\n\n[BitTorrent]\nSession\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\nSession\\Interface=lo\n\n[Preferences]\nWebUI\\Address=127.0.0.1\nWebUI\\UseUPnP=false\n");
	await program(t, dir, `http://127.0.0.1:${port}/`, torrents, [`--profile=${dir}`, `--webui-port=${port}`]);
	const app = await meter(t, port, api);
	const openUI = async (page, site) => {
		await page.goto(`${site}/`);
		await page.locator("#username, #torrentsTableDiv").first().waitFor();
		if (await page.locator("#username").count()) { // the first page of a browser
			await page.locator("#username").fill("admin");
			await page.locator("#password").fill("adminadmin");
			await page.locator("#login, #loginButton, input[type=submit]").first().click();
		}
		await page.locator("#torrentsTableDiv").waitFor();
	};
	const add = (page, name) => page.evaluate((link) => fetch("/api/v2/torrents/add", { method: "POST", body: new URLSearchParams({ urls: link, paused: "true" }) }).then((r) => r.text()), magnet(name));
	const lists = (page, name) => until(`the page lists torrent-${name}`, async () => (await page.locator("#torrentsTableDiv").textContent()).includes(`torrent-${name}`));

	await t.test("as it is", async (t) => {
		const site = await front(t, "qbittorrent", { QBITTORRENT: app.url, INTERVAL: "1500ms" });
		const context = await browser(t);
		const pages = [];
		for (let i = 0; i < 4; i++) pages.push(await open(context, api, (page) => openUI(page, site)));
		await sleep(6);
		const got = await compare(pages, app, (polls) => polls >= 20);
		t.diagnostic(`4 pages: ${got.pages} requests at the pages, ${got.app} at qBittorrent`);
		assert.ok(got.app * 3 < got.pages * 2, JSON.stringify(got));
		assert.equal(await add(pages[0].page, "a"), "Ok.");
		for (const { page } of pages) await lists(page, "a");
		assert.deepEqual(pages.flatMap(({ asked }) => asked.failures), []);
	});

	await t.test("with the shim", async (t) => {
		const site = await front(t, "qbittorrent", { QBITTORRENT: app.url, INTERVAL: "1500ms" }, "poll_sse_client {\nshim /api/v2/sync/maindata {\nignore *\n}\n}");
		const one = await open(await browser(t), api, (page) => openUI(page, site));
		await until("the shim answers", () => one.page.evaluate(() => pollSSEShim.stats.answered >= 2));
		const answered = await one.page.evaluate(() => pollSSEShim.stats.answered);
		const got = await compare([one], app, async () => (await one.page.evaluate(() => pollSSEShim.stats.answered)) >= answered + 4);
		t.diagnostic(`1 page: 4 polls answered without a request, ${got.pages} requests at the page, ${got.app} at qBittorrent`);
		assert.equal(got.pages, 0, JSON.stringify(one.asked.polls));
		assert.equal(await add(one.page, "b"), "Ok.");
		await lists(one.page, "b");
		assert.deepEqual(one.asked.failures, []);
	});
}

const transmission = "/usr/bin/transmission-daemon";

async function transmissionPages(t) {
	const [port, peers] = [await freePort(), await freePort()], api = /^\/transmission\/rpc/, dir = mkdtempSync(join(tmpdir(), "transmission-"));
	await program(t, dir, `http://127.0.0.1:${port}/transmission/web/`, transmission, ["--foreground", "--config-dir", dir, "--port", `${port}`, "--rpc-bind-address", "127.0.0.1", "--no-auth", "--no-portmap", "--no-dht", "--no-lpd", "--no-utp", "--peerport", `${peers}`]);
	const app = await meter(t, port, api);
	const site = await front(t, "transmission", { TRANSMISSION: app.url, INTERVAL: "5s" });
	const context = await browser(t);
	const pages = [];
	for (let i = 0; i < 4; i++)
		pages.push(await open(context, api, async (page) => {
			await page.goto(`${site}/transmission/web/`);
			await page.locator("#torrent_list").waitFor({ state: "attached" });
		}));
	await sleep(linger + 5); // its reads have one URL
	const got = await compare(pages, app, (polls) => polls >= 16);
	t.diagnostic(`4 pages: ${got.pages} requests at the pages, ${got.app} at Transmission`);
	assert.ok(got.app * 3 < got.pages * 2, JSON.stringify(got));
	const added = await pages[0].page.evaluate(async (filename) => {
		const ask = (session) => fetch("/transmission/rpc", { method: "POST", headers: { "X-Transmission-Session-Id": session, "Content-Type": "json" }, body: JSON.stringify({ method: "torrent-add", arguments: { filename, paused: true } }) });
		const first = await ask("");
		return (await ask(first.headers.get("X-Transmission-Session-Id"))).json();
	}, magnet("c"));
	assert.equal(added.result, "success");
	for (const { page } of pages) await until("the page lists torrent-c", async () => (await page.locator("#torrent_list").textContent()).includes("torrent-c"));
	assert.deepEqual(pages.flatMap(({ asked }) => asked.failures), []);
}

// Two at once, as most of their time is waiting.
describe("applications that nobody here wrote", { concurrency: 2 }, () => {
	test("RabbitMQ's own pages", { skip: !existsSync(rabbit) && "rabbitmq-server is missing: Debian package rabbitmq-server" }, rabbitPages);
	test("qBittorrent's own page", { skip: !existsSync(torrents) && "qbittorrent-nox is missing: Debian package qbittorrent-nox" }, torrentPages);
	test("Transmission's own page", { skip: !existsSync(transmission) && "transmission-daemon is missing: Debian package transmission-daemon" }, transmissionPages);
});
