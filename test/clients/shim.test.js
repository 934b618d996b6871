// Pages that poll, and that nobody changes, with the shim in front of them.
import assert from "node:assert/strict";
import test from "node:test";
import { browser } from "./browser.js";
import { application, polls, settled } from "./polls.js";
import { until } from "./support.js";

test("four kinds of polls become none", async (t) => {
	const s = await application(t, polls);
	const page = await (await browser(t)).newPage();
	await page.goto(s.origin);
	const before = await settled(page, s);
	const answered = await page.evaluate(() => pollSSEShim.stats.answered);
	for (let n = 1; n <= 10; n++) {
		s.up.version = n;
		await until(`version ${n} for each`, () => page.evaluate((n) => Object.values(got).every((list) => list.at(-1)?.version === n), n));
	}
	await until("a hundred answers more", () => page.evaluate((before) => pollSSEShim.stats.answered > before + 100, answered));
	assert.equal(s.questions(), before, "no question reaches the server");
	const got = await page.evaluate(() => Object.values(got).map((list) => list.at(-1)));
	for (const document of got) assert.deepEqual(document, s.up.document());
	assert.deepEqual(await page.evaluate(() => failures), []);
	assert.equal(s.up.polls, 0, "the application itself is never asked");
	// A stream that is lost: the network answers.
	s.cut.now();
	s.up.version = 11;
	await until("version 11 for each", () => page.evaluate(() => Object.values(got).every((list) => list.at(-1)?.version === 11)));
	assert.deepEqual((await page.evaluate(() => failures)).filter((failure) => !/fetch|error/i.test(failure)), []);
});

// What a request shows to the page that makes it, event by event.
const observe = () => {
	window.observe = (make) => new Promise((done) => {
		const log = [], x = new XMLHttpRequest();
		const note = (e) => {
			let text = "";
			try { text = x.responseText.length; } catch (error) { text = error.name; }
			const response = typeof x.response === "string" ? x.response.length : x.response;
			log.push([e.type, x.readyState, x.status, x.statusText, x.responseURL, text, response instanceof Blob ? "blob " + response.size : response instanceof ArrayBuffer ? "buffer " + response.byteLength : response, x.getResponseHeader("Content-Type"), e.loaded ?? null]);
			if (e.type === "loadend") setTimeout(() => done(log));
		};
		for (const type of ["readystatechange", "loadstart", "progress", "abort", "error", "timeout", "load", "loadend"]) x.addEventListener(type, note);
		make(x);
	});
};

test("what a page sees of a request is what the network shows", async (t) => {
	const s = await application(t, "<!doctype html><title>x</title>");
	const context = await browser(t);
	const page = await context.newPage();
	await page.addInitScript(observe);
	await page.goto(s.origin);
	await page.evaluate(() => fetch("/api"));
	await until("the stream is live", () => page.evaluate(async () => {
		await (await fetch("/api")).json();
		return pollSSEShim.stats.answered > 0;
	}));
	// The same page without the shim.
	const plain = await context.newPage();
	await plain.addInitScript(observe);
	await plain.goto(s.origin);
	await plain.evaluate(() => pollSSEShim.remove());

	const cases = {
		text: (x) => { x.open("GET", "/api"); x.send(); },
		json: (x) => { x.open("GET", "/api"); x.responseType = "json"; x.timeout = 5000; x.send(); },
		blob: (x) => { x.open("GET", "/api"); x.responseType = "blob"; x.send(); },
		arraybuffer: (x) => { x.open("GET", "/api"); x.responseType = "arraybuffer"; x.send(null); },
		"a condition that holds": (x) => { x.open("GET", "/api"); x.setRequestHeader("If-None-Match", etag); x.send(); },
		"an abort after send": (x) => { x.open("GET", "/api"); x.send(); x.abort(); },
	};
	// What the network gave for the compressed form holds for the shim, too.
	for (const each of [page, plain]) await each.evaluate(async () => (window.etag = (await fetch("/api", { cache: "reload", headers: { range: "bytes=0-" } })).headers.get("etag")));
	for (const [name, make] of Object.entries(cases)) {
		const answered = await page.evaluate(() => pollSSEShim.stats.answered);
		const [shimmed, real] = [await page.evaluate(`observe(${make})`), await plain.evaluate(`observe(${make})`)];
		assert.equal(await page.evaluate(() => pollSSEShim.stats.answered), answered + 1, name);
		// A proxy in between decides in how many pieces the real one comes; each is one more pair of these.
		// Whether a total is known is not compared: it is not where the network compresses.
		const merge = (log) => log.filter((entry, i) => !(entry[1] === 3 && ["progress", "readystatechange"].includes(entry[0]) && log.slice(i + 1).some((later) => later[0] === entry[0] && later[1] === 3)));
		assert.equal(merge(shimmed).map((entry) => JSON.stringify(entry).slice(0, 150)).join("\n"), merge(real).map((entry) => JSON.stringify(entry).slice(0, 150)).join("\n"), name);
	}

	// What a request says of itself.
	const values = {
		"responseType after send()": () => new Promise((done) => {
			const x = new XMLHttpRequest();
			x.open("GET", "/api");
			x.onload = () => done([x.responseType, typeof x.response]);
			x.send();
			x.responseType = "json";
		}),
		"send() twice": () => new Promise((done) => {
			const x = new XMLHttpRequest(), log = [], again = () => {
				try {
					x.send();
				} catch (error) {
					log.push(error.name);
				}
			};
			x.open("GET", "/api");
			x.onloadend = () => {
				again();
				done(log);
			};
			x.send();
			again();
		}),
		"abort() after the end": () => new Promise((done) => {
			const x = new XMLHttpRequest(), log = [];
			x.open("GET", "/api");
			x.onreadystatechange = x.onabort = ({ type }) => log.push(type + x.readyState);
			x.onloadend = () => {
				log.length = 0;
				x.onloadend = null;
				setTimeout(() => {
					x.abort();
					done([x.readyState, x.status, x.responseText, log]);
				});
			};
			x.send();
		}),
		"abort() twice": () => {
			const x = new XMLHttpRequest(), log = [];
			x.open("GET", "/api");
			x.onabort = () => log.push(x.readyState);
			x.send();
			x.abort();
			x.abort();
			return [x.readyState, log];
		},
		"open() with an async that is undefined": () => {
			const x = new XMLHttpRequest();
			x.open("GET", "/api", undefined);
			x.send();
			return [x.readyState, x.responseText.length > 0];
		},
		"fetch with what is no request": () => Promise.all([{ body: "x" }, { cache: "none" }, { mode: "navigate" }, { signal: {} }, { method: 5 }, { method: null }, { headers: { "if-match": '"none"' } }, null].map((init) => fetch("/api", init).then(({ status }) => status, ({ name }) => name))),
	};
	for (const [name, run] of Object.entries(values)) assert.deepEqual(await page.evaluate(run), await plain.evaluate(run), name);

	// fetch: status, headers, url, clones, conditions.
	const look = async () => {
		const response = await fetch("/api#part"), copy = response.clone();
		const etag = response.headers.get("etag");
		const same = await fetch("/api", { headers: { "if-none-match": etag } });
		const aborted = new AbortController(), reason = fetch("/api", { signal: aborted.signal }).catch((error) => error.name);
		aborted.abort();
		return [response.status, response.statusText, response.ok, response.url, response.type, response.redirected, copy.url, response.headers.get("content-type"), etag, await response.json(), await copy.text(), same.status, await same.text(), await reason];
	};
	const [shimmed, real] = [await page.evaluate(look), await plain.evaluate(look)];
	assert.deepEqual(shimmed.with(8, shimmed[8].slice(0, 23)), real.with(8, real[8].slice(0, 23)));
	assert.equal(await page.evaluate(() => pollSSEShim.stats.notModified), 2, "by XMLHttpRequest and by fetch");

	// What is not answered: other methods, ranges, synchronous requests, other URLs, other kinds of answers.
	const before = await page.evaluate(() => pollSSEShim.stats.answered);
	const sent = s.questions();
	await page.evaluate(async () => {
		await fetch("/api", { method: "HEAD" });
		await fetch("/api", { headers: { range: "bytes=0-1" } });
		await fetch("/api?other=1");
		await fetch("/api", { headers: { accept: "text/html" } });
		const x = new XMLHttpRequest();
		x.open("GET", "/api", false);
		x.send();
	});
	assert.equal(await page.evaluate(() => pollSSEShim.stats.answered), before);
	assert.ok(s.questions() >= sent + 4);

	// Other request headers are another document's: a stream of its own.
	const streams = () => s.cut.requests.filter((request) => /\r\naccept: text\/event-stream\r\n/i.test(request) && /\r\nx-tenant: a\r\n/i.test(request)).length;
	await until("a stream with the header", async () => {
		await page.evaluate(() => fetch("/api", { headers: { "x-tenant": "a" } }));
		return streams() === 1;
	});

	// But a header with another value each time opens no stream for each.
	const traced = () => s.cut.requests.filter((request) => /\r\naccept: text\/event-stream\r\n/i.test(request) && /\r\nx-trace: /i.test(request)).length;
	for (let n = 0; n < 10; n++) assert.equal(await page.evaluate((n) => fetch("/api", { headers: { "x-trace": `${n}` } }).then(({ status }) => status), n), 200);
	await until("two streams more", () => traced() >= 2);
	assert.equal(traced(), 2, "four for a URL");
});

test("what was live before a pause is asked for anew, by a stream of its own", async (t) => {
	const s = await application(t, "<!doctype html><title>x</title>");
	const page = await (await browser(t)).newPage();
	await page.goto(s.origin);
	const streams = () => s.cut.requests.filter((request) => /\r\naccept: text\/event-stream\r\n/i.test(request)).length;
	const answered = () => page.evaluate(async () => {
		const before = pollSSEShim.stats.answered;
		await fetch("/api");
		return pollSSEShim.stats.answered > before;
	});
	await until("the stream is live", answered);
	const events = [
		() => document.dispatchEvent(new Event("visibilitychange")), // and it is visible
		() => document.dispatchEvent(new Event("freeze")),
		() => dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })),
	];
	for (const [i, event] of events.entries()) {
		await page.evaluate(event);
		assert.equal(await answered(), false, `${event}`);
		await until("another stream is live", answered);
		assert.equal(streams(), i + 2);
	}
});

test("a policy that forbids the shim is respected", async (t) => {
	const s = await application(t, polls, { "Content-Security-Policy": "script-src 'unsafe-inline' 'nonce-x'" });
	const page = await (await browser(t)).newPage();
	const violations = [];
	page.on("console", (message) => /poll-sse/.test(message.text()) && violations.push(message.text()));
	await page.goto(s.origin);
	assert.equal(await page.evaluate(() => typeof pollSSEShim), "undefined");
	assert.deepEqual(violations, []);
});

test("the page's own policy allows it, and it works", async (t) => {
	const s = await application(t, polls, { "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; connect-src 'self'" });
	const page = await (await browser(t)).newPage();
	await page.goto(s.origin);
	await until("answers", () => page.evaluate(() => pollSSEShim.stats.answered > 10));
});
