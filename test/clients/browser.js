// What the tests in Chromium share: the browser, and a site that serves pages,
// the client and a document whose versions the test decides.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after } from "node:test";
import tls from "node:tls";
import { chromium, firefox } from "playwright-core";
import { caddy, cutter, freePort, until, upstream } from "./support.js";

// Browsers by name, one of each for all tests of a file. Later releases of
// playwright ask Firefox for a command that Debian's ESR does not have yet.
const engines = {
	Chromium: () => chromium.launch({
		executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
		// app.test is this machine, but not a secure context.
		args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP app.test 127.0.0.1"],
	}),
	Firefox: () => firefox.launch({
		channel: "moz-firefox",
		executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
		firefoxUserPrefs: { "network.dns.localDomains": "app.test" },
	}),
};
const launched = {};
after(() => Promise.all(Object.values(launched).map(async (browser) => (await browser).close())));

// browser opens what a user has: several tabs of one context.
export async function browser(t, { engine = "Chromium", ...options } = {}) {
	launched[engine] ??= engines[engine]();
	const context = await (await launched[engine]).newContext({ ignoreHTTPSErrors: true, ...options });
	context.setDefaultTimeout(120_000);
	context.setDefaultNavigationTimeout(120_000);
	t.after(() => context.close());
	return context;
}

// site is Caddy with a document at /doc, behind a proxy that counts and cuts.
// pages are files by name, under root; directives go into the site, before the files.
export async function site(t, { pages = {}, heartbeat = "10s", options = "", directives = "", secure = false, up } = {}) {
	const root = mkdtempSync(join(tmpdir(), "site-"));
	t.after(() => rmSync(root, { recursive: true, force: true }));
	for (const [name, text] of Object.entries(pages)) {
		mkdirSync(dirname(join(root, name)), { recursive: true });
		writeFileSync(join(root, name), text);
	}
	up ??= await upstream(t);
	const [port, plain] = [await freePort(), await freePort()];
	await caddy(t, {
		port: plain,
		text: `{
	admin off
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	https_port ${port}
}
(site) {
	poll_sse /doc ${up.url} {
		interval 100ms
		heartbeat ${heartbeat}
		retry 200ms
		${options}
	}
	poll_sse_client
	${directives}
	root ${root}
	file_server
}
http://:${plain} {
	respond /ready 200
	import site
}
${secure ? `https://localhost:${port} {
	tls internal
	import site
}` : ""}
`,
	});
	// The certificate is made after the start.
	if (secure) await until("TLS", () => new Promise((done) => tls.connect({ port, servername: "localhost", rejectUnauthorized: false }, function () {
		this.end();
		done(true);
	}).on("error", () => done(false))));
	const cut = await cutter(t, secure ? port : plain);
	const origin = secure ? `https://localhost:${port}` : `http://127.0.0.1:${cut.port}`;
	// Requests for streams so far; over TLS the proxy cannot read them.
	const streams = () => cut.requests.filter((request) => /^GET \/doc/.test(request) && /\r\naccept: text\/event-stream\r\n/i.test(request)).length;
	const gets = () => cut.requests.filter((request) => /^GET \/doc/.test(request)).length - streams();
	return { up, cut, origin, streams, gets, plain, root };
}

// livePage is a page that keeps all that it is told in window.seen.
export const livePage = (options = "{}", url = "/doc") => `<!doctype html>
<title>live</title>
<script type="module">
	import { live } from "/poll-sse/client.js";
	window.seen = [];
	window.errors = [];
	window.states = [];
	const options = ${options};
	window.doc = live(new URLSearchParams(location.search).get("url") ?? "${url}", { onerror: (error) => errors.push(error.kind + " " + (error.status ?? "")), ...options });
	doc.subscribe((data, change) => seen.push([data.version, change?.type, Date.now()]));
	doc.onStatus(({ state, transport }) => states.push(state + " " + (transport ?? "")));
</script>`;

export const version = (page) => page.evaluate(() => window.doc?.data?.version ?? -1);
