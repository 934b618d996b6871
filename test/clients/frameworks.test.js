// The pages of examples/frameworks, as their tools bundle them.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { build } from "esbuild";
import { compile } from "svelte/compiler";
import { browser, site } from "./browser.js";
import { root, until } from "./support.js";

const folder = join(root, "examples/frameworks");
const exported = JSON.parse(readFileSync(join(root, "client/package.json"), "utf8")).exports;
const alias = Object.fromEntries(Object.entries(exported).map(([name, target]) => [`poll-sse${name.slice(1)}`, join(root, "client", target.default ?? target)]));

async function bundle(entry) {
	const svelte = {
		name: "svelte",
		setup: (build) => build.onLoad({ filter: /\.svelte$/ }, ({ path }) => ({ contents: compile(readFileSync(path, "utf8"), { filename: path, generate: "client" }).js.code })),
	};
	const { outputFiles } = await build({
		...(entry.endsWith(".svelte")
			? { stdin: { contents: `import { mount } from "svelte"; import App from ${JSON.stringify(join(folder, entry))}; mount(App, { target: document.getElementById("root") });`, resolveDir: folder } }
			: { entryPoints: [join(folder, entry)] }),
		bundle: true, write: false, format: "esm", jsx: "automatic", alias, nodePaths: [join(root, "test/clients/node_modules")], plugins: [svelte], conditions: ["browser"],
		define: { "process.env.NODE_ENV": '"development"', __VUE_OPTIONS_API__: "true", __VUE_PROD_DEVTOOLS__: "false", __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false" },
		logLevel: "error",
	});
	return outputFiles[0].text;
}

for (const [name, entry] of [["React", "react.jsx"], ["Vue", "vue.js"], ["Svelte", "Svelte.svelte"], ["Solid", "solid.js"], ["an element", "element.html"]]) {
	test(`${name} follows by one connection`, async (t) => {
		const text = entry.endsWith(".html") ? readFileSync(join(folder, entry), "utf8") : "<!doctype html><title>x</title><div id=root></div><script type=module src=/bundle.js></script>";
		const pages = { "index.html": text };
		if (!entry.endsWith(".html")) pages["bundle.js"] = await bundle(entry);
		const s = await site(t, { pages, directives: "rewrite /api/quotes /doc" });
		s.up.document = () => ({ quotes: [{ symbol: "A", price: s.up.version }, { symbol: "B", price: 7 }] });
		const page = await (await browser(t)).newPage();
		const errors = [];
		page.on("pageerror", (error) => errors.push(`${error}`));
		await page.goto(s.origin);
		for (let n = 0; n <= 3; n++) {
			s.up.version = n;
			await until(`version ${n}`, async () => (await page.locator("li").allTextContents()).join() === `A ${n},B 7`);
		}
		assert.deepEqual(errors, []);
		assert.equal(s.cut.requests.filter((request) => /^GET \/api\/quotes/.test(request)).length, 1, "StrictMode mounts twice, and connects once");
	});
}

// run bundles a script and returns what it prints in Node.
async function run(contents, options) {
	const { outputFiles } = await build({ stdin: { contents, resolveDir: folder }, bundle: true, write: false, format: "cjs", alias, nodePaths: [join(root, "test/clients/node_modules")], define: { "process.env.NODE_ENV": '"production"' }, logLevel: "error", ...options });
	return execFileSync(process.execPath, ["-"], { input: outputFiles[0].text, encoding: "utf8" });
}

test("React renders on a server, where a relative URL has no base", async () => {
	const html = await run(`
		import { createElement } from "react";
		import { renderToString } from "react-dom/server";
		import { useLive } from "poll-sse/react";
		const Price = () => {
			const { data, status } = useLive("/api/quotes", { initial: { data: { price: 7 }, id: "x" } });
			return createElement("p", null, data.price, " ", status.state);
		};
		console.log(renderToString(createElement(Price)));`, { platform: "node" });
	assert.equal(html.replaceAll("<!-- -->", "").trim(), "<p>7 paused</p>");
});

test("Solid forgets a document when its URL becomes null", async () => {
	const printed = await run(`
		import { createEffect, createRoot, createSignal } from "solid-js";
		import { createLive } from "poll-sse/solid";
		const text = 'event: snapshot\\nid: 1\\ndata: {"of":"somebody"}\\n\\n';
		const fetch = async () => new Response(new ReadableStream({ start: (c) => c.enqueue(new TextEncoder().encode(text)) }), { headers: { "content-type": "text/event-stream" } });
		createRoot(() => {
			const [url, setURL] = createSignal("http://server.test/doc"), [data, status] = createLive(url, { fetch });
			let had = false;
			createEffect(() => {
				if (data() && !had) queueMicrotask(() => setURL(null));
				else if (had && !data()) {
					console.log(JSON.stringify([data(), status()]));
					process.exit();
				}
				had ||= !!data();
			});
			setTimeout(() => process.exit(1), 20_000);
		});`, { conditions: ["browser"] });
	assert.equal(printed.trim(), "[null,null]");
});
