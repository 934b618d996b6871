// The client in Chromium: one connection for all tabs, and what ends one.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { browser, livePage, site, version } from "./browser.js";
import { until } from "./support.js";

const reaches = (page, n, seconds) => until(`version ${n}`, async () => (await version(page)) === n, seconds);

for (const secure of [false, true]) {
	test(`a page follows, over ${secure ? "HTTP/2" : "HTTP/1.1"}`, async (t) => {
		const s = await site(t, { secure, pages: { "index.html": livePage() } });
		const context = await browser(t);
		const page = await context.newPage();
		await page.goto(s.origin);
		await reaches(page, 0);
		for (let n = 1; n <= 10; n++) {
			s.up.version = n;
			await reaches(page, n);
			assert.deepEqual(await page.evaluate(() => doc.data), s.up.document());
		}
		assert.equal(await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol), secure ? "h2" : "http/1.1");
		const { snapshots, patches, connects, bytes } = await page.evaluate(() => doc.stats);
		assert.deepEqual([snapshots, connects], [1, 1]);
		assert.ok(patches >= 9 && bytes > 0, `${patches} patches, ${bytes} bytes`);
		assert.deepEqual(await page.evaluate(() => errors), []);
		// Ten tabs: one stream over HTTP/1.1, each its own over HTTP/2; all of them load.
		const tabs = [page];
		while (tabs.length < 10) tabs.push(await context.newPage());
		await Promise.all(tabs.slice(1).map((tab) => tab.goto(s.origin)));
		s.up.version = 11;
		for (const tab of tabs) await reaches(tab, 11);
		const transports = await Promise.all(tabs.map((tab) => tab.evaluate(() => doc.status.transport)));
		assert.deepEqual(transports.toSorted(), secure ? Array(10).fill("stream") : ["stream", ...Array(9).fill("tab")]);
		if (!secure) assert.deepEqual([s.streams(), s.gets()], [1, 0]);
	});
}

// crew opens tabs of one site; the first one leads.
async function crew(t, count, options) {
	const s = await site(t, { pages: { "index.html": livePage(options) } });
	const context = await browser(t);
	const tabs = [];
	for (let i = 0; i < count; i++) {
		tabs.push(await context.newPage());
		await tabs[i].goto(s.origin);
		await reaches(tabs[i], 0);
	}
	assert.deepEqual(await Promise.all(tabs.map((tab) => tab.evaluate(() => doc.status.transport))), ["stream", ...Array(count - 1).fill("tab")]);
	// Steps follow one another; each page has to end at the last one, and may skip none of those told as patches.
	const step = async (n, pages, seconds) => {
		s.up.version = n;
		for (const tab of pages) await reaches(tab, n, seconds);
	};
	return { s, context, tabs, step };
}

async function complete(s, pages) {
	for (const tab of pages) {
		assert.deepEqual(await tab.evaluate(() => doc.data), s.up.document());
		assert.equal((await tab.evaluate(() => doc.status)).state, "live");
	}
}

test("the tab that leads is closed", async (t) => {
	const { s, tabs, step } = await crew(t, 3);
	await step(1, tabs);
	await tabs[0].close();
	await step(2, tabs.slice(1));
	await step(3, tabs.slice(1));
	await complete(s, tabs.slice(1));
	assert.equal(s.streams(), 2);
	assert.equal(s.gets(), 0);
});

test("the tab that leads crashes", async (t) => {
	const { s, context, tabs, step } = await crew(t, 3);
	const cdp = await context.newCDPSession(tabs[0]);
	cdp.send("Page.crash").catch(() => {});
	await step(1, tabs.slice(1));
	await step(2, tabs.slice(1));
	await complete(s, tabs.slice(1));
});

test("the tab that leads hangs", async (t) => {
	const { s, tabs, step } = await crew(t, 2);
	// Until there is a file that says so.
	const hang = tabs[0].evaluate(() => {
		for (const x = new XMLHttpRequest(); x.status !== 200; ) {
			x.open("GET", "/released.txt", false);
			x.send();
		}
	});
	s.up.version = 1;
	await reaches(tabs[1], 1);
	assert.equal((await tabs[1].evaluate(() => doc.status)).transport, "stream");
	writeFileSync(join(s.root, "released.txt"), "");
	await hang;
	await step(2, tabs);
	await complete(s, tabs);
	await until("the first tab follows", async () => (await tabs[0].evaluate(() => doc.status)).transport === "tab");
});

test("two users never share, and a private document is shared by key only", async (t) => {
	const s = await site(t, {
		pages: { "index.html": livePage(`JSON.parse(decodeURIComponent(location.hash.slice(1)) || "{}")`) },
		options: "forward cookie:session Authorization",
	});
	s.up.document = (request) => ({ version: s.up.version, of: `${request?.headers.authorization ?? ""}${request?.headers.cookie ?? ""}` });
	const context = await browser(t);
	const open = async (options) => {
		const page = await context.newPage();
		await page.goto(`${s.origin}/#${encodeURIComponent(JSON.stringify(options))}`);
		await reaches(page, 0);
		return page;
	};
	const of = (page) => page.evaluate(() => doc.data.of);
	const one = await open({ headers: { authorization: "Bearer one" } });
	const two = await open({ headers: { authorization: "Bearer two" } });
	assert.deepEqual([await of(one), await of(two)], ["Bearer one", "Bearer two"]);
	await context.addCookies([{ name: "session", value: "first", url: s.origin }]);
	const before = await open({});
	await context.addCookies([{ name: "session", value: "second", url: s.origin }]);
	const after = await open({});
	assert.deepEqual([await of(before), await of(after)], ["session=first", "session=second"]);
	// The page knows that these are one user's.
	const streams = s.streams();
	const keyed = [await open({ tabs: { key: "me" } }), await open({ tabs: { key: "me" } })];
	assert.deepEqual([await of(keyed[0]), await of(keyed[1])], ["session=second", "session=second"]);
	assert.equal(s.streams(), streams + 1);
});

test("a login that has ended, and one tab that asks again for all", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage(`{ tabs: { key: "me" } }`) }, options: "forward cookie:session" });
	s.up.status = (request) => (request.headers.cookie ? 200 : 401);
	const context = await browser(t);
	await context.addCookies([{ name: "session", value: "in", url: s.origin }]);
	const tabs = [await context.newPage(), await context.newPage()];
	for (const tab of tabs) {
		await tab.goto(s.origin);
		await reaches(tab, 0);
	}
	await context.clearCookies();
	s.cut.now();
	for (const tab of tabs) await until("failed", async () => (await tab.evaluate(() => doc.status)).state === "failed");
	await context.addCookies([{ name: "session", value: "in", url: s.origin }]);
	s.up.version = 1;
	await tabs[1].evaluate(() => doc.reconnect());
	for (const tab of tabs) {
		await reaches(tab, 1);
		assert.equal((await tab.evaluate(() => doc.status)).state, "live");
	}
});

test("without locks, on plain HTTP, a SharedWorker leads", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage(`{ tabs: { worker: "/poll-sse/worker.js" } }`) } });
	const context = await browser(t);
	const origin = `http://app.test:${s.cut.port}`;
	const tabs = [];
	for (let i = 0; i < 8; i++) {
		tabs.push(await context.newPage());
		await tabs[i].goto(origin);
		await reaches(tabs[i], 0);
	}
	assert.equal(await tabs[0].evaluate(() => navigator.locks), undefined);
	assert.deepEqual(new Set(await Promise.all(tabs.map((tab) => tab.evaluate(() => doc.status.transport)))), new Set(["worker"]));
	await tabs[0].close();
	s.up.version = 1;
	for (const tab of tabs.slice(1)) await reaches(tab, 1);
	assert.equal(s.streams(), 1);
	await complete(s, tabs.slice(1));
});

test("a private document by a SharedWorker: each tab goes on alone", async (t) => {
	const s = await site(t, { options: "forward cookie:session", pages: { "index.html": livePage(`{ tabs: { worker: "/poll-sse/worker.js" } }`) } });
	const context = await browser(t);
	for (let i = 0; i < 2; i++) {
		const tab = await context.newPage();
		await tab.goto(`http://app.test:${s.cut.port}`);
		await reaches(tab, 0);
		assert.equal((await tab.evaluate(() => doc.status)).transport, "stream");
	}
});

test("a private document by a SharedWorker, with a key: one stream for all", async (t) => {
	const s = await site(t, { options: "forward cookie:session", pages: { "index.html": livePage(`{ tabs: { worker: "/poll-sse/worker.js", key: "me" } }`) } });
	const context = await browser(t);
	const tabs = [await context.newPage(), await context.newPage()];
	for (const tab of tabs) {
		await tab.goto(`http://app.test:${s.cut.port}`);
		await reaches(tab, 0);
	}
	s.up.version = 1;
	for (const tab of tabs) await reaches(tab, 1);
	assert.deepEqual(await Promise.all(tabs.map((tab) => tab.evaluate(() => doc.status.transport))), ["worker", "worker"]);
	assert.equal(s.streams(), 1);
});

for (const [host, tabs] of [["127.0.0.1", {}], ["127.0.0.1", { key: "me" }], ["app.test", { worker: "/poll-sse/worker.js" }], ["app.test", { worker: "/poll-sse/worker.js", key: "me" }]]) {
	test(`a tab that was denied does not hold up one that opens after a login: ${host}, ${JSON.stringify(tabs)}`, async (t) => {
		// The first one shows what was rendered for somebody else.
		const s = await site(t, { options: "forward cookie:session", pages: {
			"index.html": livePage(`{ tabs: ${JSON.stringify(tabs)} }`),
			"first.html": livePage(`{ tabs: ${JSON.stringify(tabs)}, initial: { data: { version: 7 }, id: "somebody-else---------" } }`),
		} });
		s.up.status = (request) => (request.headers.cookie ? 200 : 401);
		const context = await browser(t), origin = `http://${host}:${s.cut.port}`;
		const first = await context.newPage(), second = await context.newPage();
		await first.goto(`${origin}/${tabs.key ? "" : "first.html"}`);
		await until("failed", async () => (await first.evaluate(() => doc.status)).state === "failed");
		await context.addCookies([{ name: "session", value: "in", url: origin }]);
		await second.goto(origin);
		await reaches(second, 0);
		assert.deepEqual((await second.evaluate(() => seen)).map(([version]) => version), [0]);
	});
}

test("where locks are refused, as in a sandbox, a page connects on its own", async (t) => {
	const s = await site(t, { pages: { "index.html": `<!doctype html><iframe sandbox="allow-scripts" src="/frame.html"></iframe>`, "frame.html": livePage() }, directives: "header Access-Control-Allow-Origin *" });
	const page = await (await browser(t)).newPage();
	await page.goto(s.origin);
	const frame = await until("the frame", () => page.frames()[1]);
	assert.equal(await frame.evaluate(() => navigator.locks?.request("x", () => 1).catch(({ name }) => name)), "SecurityError");
	await reaches(frame, 0);
	await frame.evaluate(() => doc.reconnect());
	s.up.version = 1;
	await reaches(frame, 1);
});

test("a network that goes silent, and comes back", async (t) => {
	const s = await site(t, { heartbeat: "1s", pages: { "index.html": livePage() } });
	const page = await (await browser(t)).newPage();
	await page.goto(s.origin);
	await reaches(page, 0);
	s.cut.pause();
	s.up.version = 1;
	await until("silence is noticed", () => page.evaluate(() => errors.some((error) => error.startsWith("silent"))));
	s.cut.resume();
	await reaches(page, 1);
	assert.equal(await page.evaluate(() => doc.status.state), "live");
	assert.ok(!(await page.evaluate(() => errors)).some((error) => error.startsWith("buffered")), "no proxy is to blame");
	assert.equal(await page.evaluate(() => doc.status.transport), "stream");
});

test("the first event of a page that was rendered on the server is a patch", async (t) => {
	const s = await site(t);
	const response = await fetch(`http://127.0.0.1:${s.plain}/doc`);
	const rendered = await response.text(), id = response.headers.get("etag").slice(1, 23);
	const context = await browser(t);
	const page = await context.newPage();
	await page.route("**/rendered", (route) => route.fulfill({
		contentType: "text/html",
		body: livePage(`{ initial: document.querySelector("[data-id]") }`).replace("<script type", `<script type="application/json" data-id="${id}">${rendered.replaceAll("<", "\\u003c")}</script>\n<script type`),
	}));
	s.up.version = 1;
	await page.goto(`${s.origin}/rendered`);
	await reaches(page, 1);
	const seen = await page.evaluate(() => seen.map(([version, type]) => [version, type ?? null]));
	assert.deepEqual(seen.slice(0, 2), [[0, null], [1, "patch"]]);
	assert.equal(await page.evaluate(() => doc.stats.snapshots), 0);
});

test("who comes late to a compressed stream is told once", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage("{ tabs: false }") } });
	const context = await browser(t);
	const first = await context.newPage();
	await first.goto(s.origin);
	for (let n = 0; n <= 25; n++) {
		s.up.version = n;
		await reaches(first, n);
	}
	const late = await context.newPage();
	await late.goto(s.origin);
	await reaches(late, 25);
	const { events } = await late.evaluate(() => doc.stats);
	t.diagnostic(`${events} events`);
	assert.ok(events > 5, `${events} events: it is not sent the old ones`);
	assert.deepEqual((await late.evaluate(() => seen)).map(([version]) => version), [25]);
});

test("as many events as an hour brings, without growth", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage(`{ tabs: false }`, "/made") } });
	const context = await browser(t);
	const page = await context.newPage();
	// 3,600 events, one a second for an hour, as fast as the page takes them: by a stream that is made in the page.
	// PAUSE=1000 takes that hour.
	await page.addInitScript((pause) => {
		const real = fetch;
		window.fetch = (url, init) => {
			if (!`${url}`.includes("/made")) return real(url, init);
			const encoder = new TextEncoder();
			const body = new ReadableStream({
				start(controller) {
					window.push = (text) => controller.enqueue(encoder.encode(text));
					push(`retry: 3000\n\n: heartbeat 60\n\nevent: snapshot\nid: v0\ndata: ${JSON.stringify({ version: 0, rows: Array.from({ length: 200 }, (_, id) => ({ id, text: "x".repeat(50), n: 0 })) })}\n\n`);
				},
			});
			return Promise.resolve(new Response(body, { headers: { "content-type": "text/event-stream" } }));
		};
		window.events = async (from, to) => {
			for (let n = from; n < to; n++) {
				const ops = [{ op: "replace", path: "/version", value: n }, { op: "replace", path: `/rows/${n % 200}/n`, value: n }, { op: "move", from: `/rows/${n % 199}`, path: "/rows/0" }];
				push(`event: patch\nid: v${n}\ndata: ${JSON.stringify(ops)}\n\n`);
				if (pause || n % 20 === 0) await new Promise((done) => setTimeout(done, pause));
			}
			while (doc.data.version < to - 1) await new Promise((done) => setTimeout(done));
			seen.length = 0;
		};
	}, Number(process.env.PAUSE ?? 0));
	await page.goto(s.origin);
	await reaches(page, 0);
	const cdp = await context.newCDPSession(page);
	const heap = async () => {
		await cdp.send("HeapProfiler.collectGarbage");
		return (await cdp.send("Runtime.getHeapUsage")).usedSize;
	};
	await page.evaluate(() => events(1, 600));
	const before = await heap();
	await page.evaluate(() => events(600, 4200));
	const after = await heap();
	t.diagnostic(`heap ${before} bytes, after 3600 events ${after}`);
	assert.ok(after < before * 1.1 + 100_000, `the heap grew from ${before} to ${after} bytes`);
});
