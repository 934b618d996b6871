// Pages that are hidden, throttled and frozen.
import assert from "node:assert/strict";
import test from "node:test";
import { livePage, site } from "./browser.js";
import { devtools } from "./devtools.js";
import { until } from "./support.js";

const reaches = (page, n) => until(`version ${n}`, async () => (await page.evaluate("window.doc?.data?.version ?? -1")) === n);

test("the tab that leads is hidden and frozen, and thawed", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage() } });
	const browser = devtools(t);
	const first = await browser.open(s.origin);
	await reaches(first, 0);
	const second = await browser.open(s.origin);
	await reaches(second, 0);
	await second.show();
	await until("the first tab is hidden", () => first.evaluate("document.hidden"));
	await first.evaluate(`window.cycle = []; for (const type of ["freeze", "resume"]) document.addEventListener(type, () => cycle.push(type))`);
	await first.send("Page.setWebLifecycleState", { state: "frozen" });
	for (const n of [1, 2]) {
		s.up.version = n;
		await reaches(second, n);
	}
	assert.equal(await second.evaluate("doc.status.transport"), "stream");
	await first.send("Page.setWebLifecycleState", { state: "active" });
	s.up.version = 3;
	for (const page of [first, second]) await reaches(page, 3);
	assert.deepEqual(await first.evaluate("cycle"), ["freeze", "resume"]);
	assert.equal(await first.evaluate("doc.status.transport"), "tab");
	assert.deepEqual(await first.evaluate("doc.data"), s.up.document());
});

test("the tab that leads is hidden, and its timers come once a minute", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage() } });
	const browser = devtools(t);
	const first = await browser.open(s.origin);
	await reaches(first, 0);
	const second = await browser.open(s.origin);
	await reaches(second, 0);
	await second.show();
	await until("the first tab is hidden", () => first.evaluate("document.hidden"));
	await first.evaluate("window.ticks = 0; setInterval(() => ticks++, 100)");
	// The timers of any hidden page come once a second.
	let since = Date.now(), ticks = -1;
	await until("four seconds without a tick", async () => {
		const now = await first.evaluate("ticks");
		if (now !== ticks) since = Date.now();
		ticks = now;
		return Date.now() - since > 4000;
	});
	// Long enough without an event for the other tab to take over, if nobody answered it.
	await until("seven seconds without a tick", () => Date.now() - since > 7000);
	for (let n = 1; n <= 5; n++) {
		s.up.version = n;
		await reaches(second, n);
	}
	t.diagnostic(`${(await first.evaluate("ticks")) - ticks} ticks of a timer of 100 ms in ${Date.now() - since} ms`);
	assert.ok((await first.evaluate("ticks")) <= ticks + 1, "the timers are late");
	assert.deepEqual(await Promise.all([first, second].map((page) => page.evaluate("doc.status.transport"))), ["stream", "tab"]);
	assert.equal(s.streams(), 1, "nobody took over");
});

test("a hidden page gives its connection back, if it is told to, and resumes", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage("{ hidden: { pauseAfter: 300 }, tabs: false }"), "other.html": "<!doctype html><title>other</title>" } });
	const browser = devtools(t);
	const page = await browser.open(s.origin);
	await reaches(page, 0);
	const other = await browser.open(`${s.origin}/other.html`);
	await other.show();
	await until("paused", () => page.evaluate(`doc.status.state === "paused"`));
	s.up.version = 1;
	await page.show();
	await reaches(page, 1);
	assert.equal(await page.evaluate("doc.stats.snapshots"), 1);
	assert.equal(s.streams(), 2);
});

test("a hidden page that shares nothing goes on for a while, and what has failed stays so", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage("{ tabs: false }"), "failed.html": livePage(`{ tabs: { key: "me" }, hidden: { pauseAfter: 0 } }`), "other.html": "<!doctype html><title>other</title>" }, directives: "respond /denied 401" });
	const browser = devtools(t);
	const page = await browser.open(s.origin);
	await reaches(page, 0);
	const other = await browser.open(`${s.origin}/other.html`);
	await other.show();
	await until("hidden", () => page.evaluate("document.hidden"));
	s.up.version = 1;
	await reaches(page, 1);
	assert.deepEqual(await page.evaluate("[doc.status.state, doc.stats.connects]"), ["live", 1]);
	const failed = await browser.open(`${s.origin}/failed.html?url=/denied`);
	await until("failed", () => failed.evaluate(`window.doc?.status.state === "failed"`));
	await other.show();
	await until("hidden", () => failed.evaluate("document.hidden"));
	await failed.evaluate("new Promise((done) => setTimeout(done))");
	await failed.show();
	await failed.evaluate("new Promise((done) => requestAnimationFrame(done))");
	assert.deepEqual(await failed.evaluate("[doc.status.state, doc.stats.connects]"), ["failed", 1]);
	await failed.evaluate("doc.reconnect()");
	await until("another try", () => failed.evaluate("doc.stats.connects === 2"));
});

test("the back/forward cache", async (t) => {
	const s = await site(t, { pages: { "index.html": livePage(), "other.html": "<!doctype html><title>other</title>" } });
	const page = await devtools(t).open(s.origin);
	await reaches(page, 0);
	await page.evaluate(`addEventListener("pageshow", (e) => (window.restored = e.persisted))`);
	await page.send("Page.navigate", { url: `${s.origin}/other.html` });
	await until("the other page", () => page.evaluate(`document.title === "other"`));
	s.up.version = 1;
	await page.evaluate("history.back()");
	await until("the page is restored", () => page.evaluate("window.restored").catch(() => false));
	await reaches(page, 1);
	s.up.version = 2;
	await reaches(page, 2);
	assert.deepEqual(await page.evaluate("[doc.stats.connects, doc.stats.snapshots]"), [2, 1], "it resumed by id");
});
