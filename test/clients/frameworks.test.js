// The pages of examples/frameworks, as their tools bundle them.
import assert from "node:assert/strict";
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
