// Takes a picture of each example's page: node screenshots.js [folder]
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import test from "node:test";
import { browser } from "./browser.js";
import { example } from "./examples.js";
import { root } from "./support.js";

const folder = resolve(process.argv[2] ?? join(root, "docs/images"));
mkdirSync(folder, { recursive: true });

const talk = [["Ada", "Did the legacy API get an event stream?"], ["Grace", "No. It is asked every two seconds, for all of us at once."], ["Ada", "But this came at once."], ["Grace", "A POST through the site has it asked again."]];
const views = [["light", { width: 1280, height: 860 }, "light"], ["dark", { width: 1280, height: 860 }, "dark"], ["phone", { width: 390, height: 844 }, "light"]];

for (const name of ["quickstart", "stocks", "chat"]) {
	test(name, async (t) => {
		const { url, api } = await example(t, name);
		if (name === "chat") for (const [from, text] of talk) await fetch(`http://localhost:${api}/messages`, { method: "POST", body: JSON.stringify({ from, text }) });
		const context = await browser(t);
		const page = await context.newPage();
		await page.addInitScript(() => (sessionStorage.from = "Ada"));
		await page.goto(url);
		await page.waitForTimeout(name === "chat" ? 1000 : 45_000); // so that there is something to see
		for (const [view, size, colorScheme] of views) {
			await page.setViewportSize(size);
			await page.emulateMedia({ colorScheme });
			await page.waitForTimeout(300);
			await page.screenshot({ path: join(folder, `${name}-${view}.png`) });
		}
	});
}
