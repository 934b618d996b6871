// A page that polls in each of the ways that pages do, and its application, with
// the shim in front of them.
import { readFileSync } from "node:fs";
import http from "node:http";
import { caddy, cutter, freePort, until, upstream } from "./support.js";

const jquery = readFileSync(new URL("node_modules/jquery/dist/jquery.js", import.meta.url));

// application is one that serves pages and the API that they poll.
export async function application(t, page, headers = {}) {
	const up = await upstream(t);
	up.polls = 0;
	const app = http.createServer((request, response) => {
		if (request.url.startsWith("/jquery.js")) return response.end(jquery);
		if (request.url.startsWith("/api")) {
			up.polls++;
			response.setHeader("Content-Type", "application/json");
			return response.end(JSON.stringify(up.document(request)));
		}
		response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", ...headers });
		response.end(page);
	});
	const appPort = await new Promise((resolve) => app.listen(0, "127.0.0.1", () => resolve(app.address().port)));
	t.after(() => {
		app.close();
		app.closeAllConnections();
	});
	const port = await freePort();
	await caddy(t, {
		port,
		text: `{
	admin off
	persist_config off
}
http://:${port} {
	respond /ready 200
	poll_sse /api ${up.url} {
		interval 100ms
	}
	poll_sse_client {
		shim /api {
			ignore _
		}
	}
	reverse_proxy 127.0.0.1:${appPort}
}
`,
	});
	const cut = await cutter(t, port);
	const questions = () => cut.requests.filter((request) => /^GET \/api/.test(request) && !/\r\naccept: text\/event-stream\r\n/i.test(request)).length;
	return { up, cut, questions, origin: `http://127.0.0.1:${cut.port}` };
}

export const polls = `<!doctype html>
<html><head><meta charset="utf-8"><title>polls</title><script src="/jquery.js"></script></head><body><script>
	window.got = { fetch: [], jquery: [], json: [], states: [] };
	window.failures = [];
	addEventListener("error", (e) => failures.push(e.message));
	addEventListener("unhandledrejection", (e) => failures.push(String(e.reason)));
	setInterval(() => fetch("/api").then((r) => r.json()).then((d) => { d.version += 0; got.fetch.push(d); }), 100);
	setInterval(() => $.ajax({ url: "/api", cache: false, dataType: "json" }).then((d) => got.jquery.push(d), (x, e) => failures.push(e)), 100);
	setInterval(() => { const x = new XMLHttpRequest(); x.open("GET", "/api?_=" + Date.now()); x.responseType = "json"; x.onload = () => got.json.push(x.response); x.send(); }, 100);
	setInterval(() => { const x = new XMLHttpRequest(); x.open("GET", "/api"); x.onreadystatechange = () => { if (x.readyState === 4 && x.status === 200) got.states.push(JSON.parse(x.responseText)); }; x.send(); }, 100);
</script></body></html>`;

// settled waits until the stream answers all polls, and those that were on their
// way have arrived. Returns the number of questions so far.
export async function settled(page, { questions }) {
	const answered = () => page.evaluate(() => pollSSEShim.stats.answered);
	await until("forty answers without a question", async () => {
		const [asked, before] = [questions(), await answered()];
		await until("forty answers", async () => (await answered()) >= before + 40);
		return questions() === asked;
	});
	return questions();
}
