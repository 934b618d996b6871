// What matters most, in Debian's Firefox.
import assert from "node:assert/strict";
import test from "node:test";
import { browser, livePage, site, version } from "./browser.js";
import { application, polls, settled } from "./polls.js";
import { until } from "./support.js";

const open = async (context, origin) => {
	const page = await context.newPage();
	await page.goto(origin);
	return page;
};
const reaches = (page, n) => until(`version ${n}`, async () => (await version(page)) === n);
const transports = (pages) => Promise.all(pages.map((page) => page.evaluate(() => doc.status.transport)));

test("tabs share a connection that is cut, and go on when the one that leads is closed", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage() } });
	const context = await browser(t, { engine: "Firefox" });
	const tabs = [];
	while (tabs.length < 3) {
		tabs.push(await open(context, s.origin));
		await reaches(tabs.at(-1), 0);
	}
	assert.deepEqual(await transports(tabs), ["stream", "tab", "tab"]);
	for (let n = 1; n <= 5; n++) {
		s.up.version = n;
		if (n === 3) s.cut.now();
		for (const tab of tabs) await reaches(tab, n);
	}
	assert.match(s.cut.requests.findLast((request) => /^GET \/doc/.test(request)), /^GET \/doc\?last_event_id=[\w-]{22} /);
	assert.deepEqual([s.streams(), s.gets()], [2, 0]);
	await tabs.shift().close();
	s.up.version = 6;
	for (const tab of tabs) {
		await reaches(tab, 6);
		assert.deepEqual(await tab.evaluate(() => doc.data), s.up.document());
		assert.equal(await tab.evaluate(() => doc.stats.resyncs), 0);
	}
	assert.deepEqual((await transports(tabs)).toSorted(), ["stream", "tab"]);
	assert.equal(s.streams(), 3);
});

test("each tab has a stream of its own over HTTP/2", async (t) => {
	const s = await site(t, { secure: true, pages: { "index.html": livePage() } });
	const context = await browser(t, { engine: "Firefox" });
	const tabs = [await open(context, s.origin), await open(context, s.origin)];
	for (const n of [0, 1]) {
		s.up.version = n;
		for (const tab of tabs) await reaches(tab, n);
	}
	assert.deepEqual(await transports(tabs), ["stream", "stream"]);
	assert.equal(await tabs[0].evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol), "h2");
});

test("without locks, on plain HTTP, a SharedWorker leads", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage(`{ tabs: { worker: "/poll-sse/worker.js" } }`) } });
	const context = await browser(t, { engine: "Firefox" });
	const origin = `http://app.test:${s.cut.port}`;
	const tabs = [await open(context, origin), await open(context, origin)];
	for (const n of [0, 1]) {
		s.up.version = n;
		for (const tab of tabs) await reaches(tab, n);
	}
	assert.equal(await tabs[0].evaluate(() => navigator.locks), undefined);
	assert.deepEqual(await transports(tabs), ["worker", "worker"]);
	assert.equal(s.streams(), 1);
});

test("four kinds of polls become none", async (t) => {
	const s = await application(t, polls);
	const page = await open(await browser(t, { engine: "Firefox" }), s.origin);
	const before = await settled(page, s);
	for (let n = 1; n <= 5; n++) {
		s.up.version = n;
		await until(`version ${n} for each`, () => page.evaluate((n) => Object.values(got).every((list) => list.at(-1)?.version === n), n));
	}
	assert.equal(s.questions(), before, "no question reaches the server");
	for (const document of await page.evaluate(() => Object.values(got).map((list) => list.at(-1)))) assert.deepEqual(document, s.up.document());
	assert.deepEqual(await page.evaluate(() => failures), []);
	assert.equal(s.up.polls, 0, "the application itself is never asked");
});
