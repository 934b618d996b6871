// The configurations of docs/proxies.md, in front of a Caddy that goes away and
// comes back; and a proxy that holds streams back, with the client behind it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import test, { describe } from "node:test";
import { browser, livePage } from "./browser.js";
import { caddy, freePort, root, server, until, upstream } from "./support.js";

const doc = readFileSync(join(root, "docs/proxies.md"), "utf8");
const block = (language) => doc.match(new RegExp("```" + language + "\n([\\s\\S]*?)```"))[1];

const nginx = (conf) => ({
	files: { "nginx.conf": `daemon off;\npid DIR/pid;\nerror_log DIR/error.log;\nevents {}\nhttp {\naccess_log off;\n${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path DIR/${name};`).join("\n")}\n${conf}\n}` },
	command: ["nginx", "-c", "DIR/nginx.conf", "-p", "DIR"],
});

const proxies = {
	nginx: (ports) => nginx(ports(block("nginx"))),
	haproxy: (ports) => ({
		files: { "haproxy.cfg": ports(block("haproxy").replaceAll("/etc/haproxy/", "DIR/")), "away.http": block("http").replaceAll("\n", "\r\n").replace("retry: 3000\r\n\r\n", "retry: 3000\n\n") },
		command: ["haproxy", "-db", "-f", "DIR/haproxy.cfg"],
	}),
	varnish: (ports, port) => ({
		files: { "site.vcl": ports(block("vcl")) },
		command: ["varnishd", "-F", "-j", "none", "-n", "DIR/work", "-a", `127.0.0.1:${port}`, "-f", "DIR/site.vcl", "-s", "malloc,16m"],
	}),
};

// behind starts a site and a proxy in front of it. stop and start are Caddy's.
async function behind(t, proxy, pages, { document } = {}) {
	const [port, inner] = [await freePort(), await freePort()];
	const up = await upstream(t);
	if (document) up.document = document(up);
	const text = `{
	admin off
	persist_config off
}
http://:${inner} {
	respond /ready 200
	poll_sse /doc ${up.url} {
		interval 100ms
		heartbeat 1s
		retry 300ms
	}
	poll_sse_client
	${Object.entries(pages).map(([path, page]) => `handle ${path} {\n\t\theader Content-Type text/html\n\t\trespond <<HTML\n${page}\nHTML\n\t}`).join("\n\t")}
}
`;
	let running = await caddy(t, { port: inner, text });
	const { files, command } = proxy((conf) => conf.replaceAll("8080", `${port}`).replaceAll("8081", `${inner}`), port);
	await server(t, files, port, command);
	return { up, origin: `http://127.0.0.1:${port}`, stop: () => running.stop(), start: async () => (running = await caddy(t, { port: inner, text })) };
}

// read collects a stream's text as it comes.
function read(t, url, headers) {
	const stream = { text: "" };
	const request = http.get(url, { headers }, (response) => {
		stream.response = response;
		response.setEncoding("utf8").on("data", (data) => (stream.text += data)).on("error", () => {});
	}).on("error", () => {});
	t.after(() => request.destroy());
	return stream;
}

const eventSourcePage = `<!doctype html><title>x</title><script>
	window.seen = [];
	window.source = new EventSource("/doc");
	for (const name of ["snapshot", "patch"]) source.addEventListener(name, (e) => seen.push(e.data));
</script>`;

// Three at once, as most of their time is waiting.
describe("proxies", { concurrency: 3 }, () => {
	for (const [name, proxy] of Object.entries(proxies)) {
		test(`${name} passes on what comes, and a page survives a restart`, async (t) => {
			const s = await behind(t, proxy, { "/page": eventSourcePage });
			const plain = read(t, `${s.origin}/doc`, { accept: "text/event-stream" });
			await until("the document", () => plain.text.includes('"version":0'));
			const page = await (await browser(t)).newPage();
			await page.goto(`${s.origin}/page`);
			await until("the document in the page", () => page.evaluate(() => seen.length > 0));
			s.up.version = 1;
			await until("a change without compression", () => plain.text.includes('"path":"/version","value":1'));
			await until("a change in the page", () => page.evaluate(() => seen.at(-1).includes('"path":"/version","value":1')));

			await s.stop();
			const away = await fetch(`${s.origin}/doc`, { headers: { accept: "text/event-stream" } });
			assert.equal(away.status, 200);
			assert.equal(away.headers.get("content-type"), "text/event-stream");
			assert.equal(await away.text(), "retry: 3000\n\n");
			assert.ok((await fetch(`${s.origin}/doc`)).status >= 502, "other requests see the failure");
			// Long enough for the page to have come back to nobody.
			const asked = Date.now();
			await until("four seconds", () => Date.now() - asked > 4000);
			assert.notEqual(await page.evaluate(() => source.readyState), 2, "EventSource has not given up");
			s.up.version = 2;
			await s.start();
			await until("the page is back", () => page.evaluate(() => seen.at(-1).includes('"version":2') || seen.at(-1).includes('"path":"/version","value":2')));
		});
	}

	test("the client behind an nginx that answers 502 while the server restarts", async (t) => {
		const s = await behind(t, (ports) => nginx(ports("server { listen 8080; location / { proxy_pass http://127.0.0.1:8081; proxy_http_version 1.1; } }")), { "/page": livePage() });
		const page = await (await browser(t)).newPage();
		await page.goto(`${s.origin}/page`);
		const reaches = (n) => until(`version ${n}`, () => page.evaluate((n) => doc.data?.version === n, n));
		await reaches(0);
		await s.stop();
		await until("a 502", () => page.evaluate(() => errors.some((error) => error.startsWith("http 502"))));
		s.up.version = 1;
		await s.start();
		await reaches(1);
		assert.deepEqual(await page.evaluate(() => doc.data), s.up.document());
		assert.equal(await page.evaluate(() => doc.status.transport), "stream");
	});

	for (const [size, document] of [["40 bytes", (up) => () => ({ version: up.version, filler: "x" })], ["300 KB", (up) => () => ({ version: up.version, rows: Array.from({ length: 3000 }, (_, id) => ({ id, text: `${id} ${Math.sin(id)} ${Math.cos(id)} and more of it` })) })]]) {
		test(`the client behind an nginx that holds streams back, with a document of ${size}`, async (t) => {
			const conf = "server { listen 8080; location / { proxy_pass http://127.0.0.1:8081; proxy_ignore_headers X-Accel-Buffering; } }";
			const s = await behind(t, (ports) => nginx(ports(conf)), { "/page": livePage() }, { document });
			const page = await (await browser(t)).newPage();
			await page.goto(`${s.origin}/page`);
			const reaches = (n) => until(`version ${n}`, () => page.evaluate((n) => doc.data?.version === n, n));
			await reaches(0);
			await until("long polls", () => page.evaluate(() => doc.status.transport === "long-poll"));
			for (let n = 1; n <= 5; n++) {
				s.up.version = n;
				await reaches(n);
			}
			assert.deepEqual(await page.evaluate(() => doc.data), s.up.document());
			assert.ok((await page.evaluate(() => errors)).some((error) => error.startsWith("buffered")));
			assert.equal(await page.evaluate(() => doc.status.state), "live");
		});
	}
});
