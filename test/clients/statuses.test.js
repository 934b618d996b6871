// What a server or a proxy answers in place of a stream, in Chromium.
import assert from "node:assert/strict";
import http from "node:http";
import test from "node:test";
import { browser, site } from "./browser.js";

const page = `<!doctype html><title>statuses</title><script type="module">
	import { live } from "/poll-sse/client.js";
	window.live = live;
</script>`;

// gate passes requests on, but answers the first one for each name itself.
async function gate(t, port, answers) {
	const seen = {};
	const server = http.createServer((request, response) => {
		const { pathname, searchParams } = new URL(request.url, "http://gate.test"), name = searchParams.get("name");
		seen[name] = (seen[name] ?? 0) + 1;
		if (answers[name] && seen[name] === 1) {
			const [status, headers = {}, text = ""] = answers[name]();
			return response.writeHead(status, headers).end(text);
		}
		const out = http.request({ host: "127.0.0.1", port, path: pathname, headers: request.headers }, (answer) => {
			response.writeHead(answer.statusCode, answer.headers);
			answer.pipe(response);
		});
		out.on("error", () => response.destroy());
		response.on("close", () => out.destroy());
		out.end();
	});
	const at = await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
	t.after(() => {
		server.close();
		server.closeAllConnections();
	});
	return { seen, origin: `http://127.0.0.1:${at}` };
}

const json = { "content-type": "application/json" };
const answers = {
	404: () => [404, json, "{}"],
	"429, come back in a second": () => [429, { "retry-after": "1" }],
	500: () => [500, json, "{}"],
	"503, come back at a time": () => [503, { "retry-after": new Date(Date.now() + 3000).toUTCString() }],
	504: () => [504, { "content-type": "text/html" }, "<h1>504</h1>"],
	204: () => [204],
	"a login page": () => [200, { "content-type": "text/html" }, "<form>log in</form>"],
	401: () => [401],
	403: () => [403],
};

test("a page comes back from each status, or says why not", async (t) => {
	const s = await site(t, { pages: { "index.html": page } });
	const { seen, origin } = await gate(t, s.plain, answers);
	const tab = await (await browser(t)).newPage();
	await tab.goto(origin);
	for (const [name, answer] of Object.entries(answers)) {
		const [status] = answer();
		const denied = status === 401 || status === 403;
		const got = await tab.evaluate(async ([name, denied]) => {
			const errors = [], states = [], begun = Date.now();
			const doc = live(`/doc?name=${name}`, { tabs: false, onerror: ({ kind, status, fatal, retryAfter }) => errors.push({ kind, status, fatal, retryAfter }) });
			const reaches = (wanted) => new Promise((done) => {
				const off = doc.onStatus(({ state }) => {
					if (states.at(-1) !== state) states.push(state);
					if (state === wanted) queueMicrotask(() => done(off()));
				});
			});
			const stays = doc.subscribe(() => {});
			if (denied) {
				await reaches("failed");
				await new Promise((done) => setTimeout(done, 1500));
				states.push(doc.status.state);
				doc.reconnect();
			}
			await reaches("live");
			const document = await doc.ready, took = Date.now() - begun;
			stays();
			doc.close();
			return { errors, states, document, took };
		}, [name, denied]);
		assert.deepEqual(got.document, s.up.document(), name);
		const [error, ...more] = got.errors;
		assert.deepEqual(more, [], name);
		assert.deepEqual([error.kind, error.status, error.fatal], [status === 200 ? "type" : denied ? "denied" : "http", status, denied], name);
		// It may wait for a document first.
		assert.deepEqual(got.states.filter((state) => state !== "waiting"), denied ? ["connecting", "failed", "failed", "connecting", "live"] : ["connecting", "live"], name);
		assert.equal(seen[name], 2, `${name}: one more request, and for a denied one only after reconnect()`);
		if (status === 429) assert.ok(error.retryAfter === 1 && got.took >= 1000, `${JSON.stringify(error)}, back after ${got.took} ms`);
		if (status === 503) assert.ok(error.retryAfter > 0 && error.retryAfter <= 3, JSON.stringify(error));
	}
});
