// What real APIs answered, version by version: the page ends with the last one.
// The stream is cut in the middle.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { browser, site } from "./browser.js";
import { root, until } from "./support.js";

const folder = join(root, "../shared/recordings");
const skip = existsSync(folder) ? false : "the recordings are not beside the repository";

// Both at once, as each takes a tenth of a second for a version.
test("recordings in Chromium", { skip, concurrency: 2 }, (t) => Promise.all(["ca-fires", "pge-outages"].map((name) => t.test(name, (t) => replay(t, name)))));

async function replay(t, name) {
	const dir = mkdtempSync(join(tmpdir(), "recording-"));
	t.after(() => rmSync(dir, { recursive: true, force: true }));
	execFileSync("tar", ["--use-compress-program=zstd -d --long=27", "-xf", join(folder, `${name}.tar.zst`), "-C", dir]);
	const files = readdirSync(join(dir, name)).filter((file) => file.endsWith(".json")).sort().map((file) => join(dir, name, file));
	assert.ok(files.length > 300, `${files.length} versions`);
	const page = `<!doctype html><title>${name}</title><script type="module">
		import { live } from "/poll-sse/client.js";
		window.kinds = {};
		window.errors = [];
		window.doc = live("/doc", { onerror: (error) => errors.push(error.kind) });
		doc.subscribe((data, change) => { for (const { type } of change?.changes ?? (change ? [change] : [])) kinds[type] = (kinds[type] ?? 0) + 1; });
	</script>`;
	const s = await site(t, { pages: { "index.html": page } });
	let at = -1;
	// Each poll gets the next version.
	s.up.text = () => readFileSync(files[(at = Math.min(at + 1, files.length - 1))], "utf8");
	const tab = await (await browser(t)).newPage();
	await tab.goto(s.origin);
	await until("half of it", () => at > files.length / 2, 240);
	s.cut.now();
	const last = JSON.parse(readFileSync(files.at(-1), "utf8"));
	await until("the last version", async () => at === files.length - 1 && JSON.stringify(await tab.evaluate(() => doc.data)) === JSON.stringify(await (await fetch(`http://127.0.0.1:${s.plain}/doc`)).json()), 240);
	assert.deepEqual(await tab.evaluate(() => doc.data), last);
	const [kinds, errors, stats] = await tab.evaluate(() => [kinds, errors, doc.stats]);
	t.diagnostic(`${JSON.stringify(kinds)} ${JSON.stringify(stats)}`);
	assert.ok(kinds.patch > 100, JSON.stringify(kinds));
	assert.ok(!errors.includes("data"), "every patch fits");
	assert.equal(stats.resyncs, 0);
}
