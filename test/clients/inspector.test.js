// The inspector's page in a browser: light, dark and on a telephone.
import assert from "node:assert/strict";
import http from "node:http";
import test from "node:test";
import { browser } from "./browser.js";
import { caddy, freePort, until } from "./support.js";

const names = ["AAPL", "ASML", "BNP", "MSFT", "NVDA", "SAP"];

test("the inspector shows a document, its events and what they save", async (t) => {
  let step = 0, requests = 0;
  const api = http.createServer((request, response) => {
    requests++;
    response.setHeader("Content-Type", "application/json");
    const rows = names.map((symbol, i) => `{"symbol":"${symbol}","price":${100 + ((step * (i + 3)) % 7)}.5,"id":${9007199254740993n + BigInt(i)}}`);
    response.end(`{"step":${step},"market":{"open":true,"note":null},"quotes":[${rows.join(",")}],"filler":"${"x".repeat(3000)}"}`);
  });
  const apiPort = await new Promise((resolve) => api.listen(0, "127.0.0.1", () => resolve(api.address().port)));
  t.after(() => {
    api.close();
    api.closeAllConnections();
  });
  const port = await freePort();
  await caddy(t, {
    port,
    text: `{
	admin off
	persist_config off
	auto_https off
}
http://127.0.0.1:${port} {
	respond /ready 200
	poll_sse /api/quotes http://127.0.0.1:${apiPort}/quotes.json {
		name quotes
		interval 300ms
		event snapshot whole
	}
	poll_sse /api/slow http://127.0.0.1:${apiPort}/slow.json {
		name slow
		interval 1h
	}
	poll_sse_inspector /inspect* {
		stream quotes /api/quotes
		stream slow /api/slow
		poll_now
	}
}
`,
  });
  const context = await browser(t, { viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(`${error}`));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.goto(`http://127.0.0.1:${port}/inspect`);
  assert.equal(new URL(page.url()).pathname, "/inspect/", "the page has a slash at its end");
  const text = (selector) => page.locator(selector).textContent();
  const line = (name) => page.locator("#tree li > .line", { hasText: new RegExp(`(^|[▸▾])${name}: `) }).first();

  await until("live", async () => (await text("#state")) === "live");
  await until("the document", async () => (await text("#tree")).includes("step: 0"));
  await line("quotes").locator(".fold").click();
  await line("1").locator(".fold").click();
  await until("a number that a double cannot hold", async () => (await text("#tree")).includes("id: 9007199254740994"));

  for (step = 1; step <= 4; step++) {
    const now = step;
    await until("a change flashes", async () => {
      return (await text("#tree")).includes(`step: ${now}`) && (await line("step").getAttribute("class")).includes("changed");
    });
  }
  step = 4;
  assert.ok(!((await line("market").getAttribute("class")) ?? "").includes("changed"), "what has not changed does not flash");
  await until("events", async () => (await page.locator("#events tbody tr").count()) >= 5);
  const rows = await page.locator("#events tbody tr").allTextContents();
  assert.ok(rows.some((row) => /patch.*\d+ B.*replace \/step and \d+ more/.test(row)), `patches with their size and what they do: ${rows.join("\n")}`);
  assert.ok(rows.some((row) => /snapshot/.test(row)), "the document with its size, though its event is renamed");
  await until("savings", async () => /saved/.test(await text("#cards")) && /\d %saved/.test(await text("#cards")));
  await until("polls of the upstream", async () => (await page.locator("#upstream .bars i").count()) > 5);

  // With the newest id nothing is sent, with one that nobody knows the document.
  await page.locator("#resume button").click();
  await until("a resume", async () => /nothing, as the id is the newest/.test(await text("#resumed")));
  await page.locator("#id").fill("AAAAAAAAAAAAAAAAAAAAAA");
  await page.locator("#resume button").click();
  await until("a snapshot", async () => /1 whole; 3\.\d KiB/.test(await text("#resumed")));

  // The other name, whose upstream is asked once an hour, and now.
  await page.locator("nav a", { hasText: "slow" }).click();
  await until("the other document", async () => (await text("#tree")).includes("step: 4") && (await page.title()).startsWith("slow"));
  step = 5;
  const before = requests;
  await page.locator("#poll").click();
  await until("a poll at once", async () => (await text("#tree")).includes("step: 5") && requests > before);
  await page.locator("#reconnect").click();
  await until("live again", async () => (await text("#state")) === "live");

  await page.locator("nav a", { hasText: "quotes" }).click();
  for (const [name, width, height, colorScheme] of [["light", 1280, 900, "light"], ["dark", 1280, 900, "dark"], ["phone", 390, 844, "dark"]]) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    step++;
    await until("the document", async () => (await text("#tree")).includes(`step: ${step}`));
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width, `nothing is wider than the page (${name})`);
    const [back, ink] = await page.evaluate(() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]);
    const sum = (color) => color.match(/\d+/g).slice(0, 3).reduce((all, n) => all + Number(n), 0);
    assert.equal(sum(back) < sum(ink), colorScheme === "dark", `${name}: ${ink} on ${back}`);
    if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT.replace(".png", `-${name}.png`), fullPage: name === "phone" });
  }
  assert.deepEqual(errors, []);
});
