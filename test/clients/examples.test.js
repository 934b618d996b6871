// The pages of examples/stocks and examples/chat.
import assert from "node:assert/strict";
import test from "node:test";
import { browser } from "./browser.js";
import { example } from "./examples.js";
import { until } from "./support.js";

test("a message posted in one browser appears in the other, through the poke", async (t) => {
	const { url, api } = await example(t, "chat");
	const pages = [await (await browser(t)).newPage(), await (await browser(t)).newPage()];
	const errors = [];
	for (const page of pages) {
		page.on("pageerror", (error) => errors.push(`${error}`));
		await page.goto(url);
		await page.locator("#messages li").first().waitFor();
	}
	const texts = (page) => page.locator("#messages .what").allTextContents();
	for (const [i, text] of ["Hello <b>there</b>", "And back"].entries()) {
		await pages[i].fill("#from", `Name ${i}`);
		await pages[i].fill("#text", text);
		const begun = Date.now();
		await pages[i].click("button");
		for (const page of pages) await until(text, async () => (await texts(page)).at(-1) === text);
		t.diagnostic(`both show it after ${Date.now() - begun} ms; the interval is 2000`);
	}
	assert.equal(await pages[0].locator("#messages .what b").count(), 0, "a message is text, not HTML");
	// What the API refuses is said to the one who wrote.
	await pages[0].evaluate(() => document.getElementById("text").removeAttribute("maxlength"));
	await pages[0].fill("#text", "x".repeat(2000));
	await pages[0].click("button");
	await until("the problem", async () => (await pages[0].locator("#problem").textContent()).includes("at most"));
	// The API keeps a hundred; so does the page.
	for (let n = 0; n < 105; n++) await fetch(`http://localhost:${api}/messages`, { method: "POST", body: JSON.stringify({ from: "x", text: `number ${n}` }) });
	await until("the last hundred", async () => {
		const all = await texts(pages[1]);
		return all.length === 100 && all.at(-1) === "number 104" && all[0] === "number 5";
	});
	assert.deepEqual(errors, []);
});

test("the watch list and the chart follow", async (t) => {
	const { url } = await example(t, "stocks");
	const page = await (await browser(t)).newPage();
	const errors = [];
	page.on("pageerror", (error) => errors.push(`${error}`));
	await page.goto(url);
	await until("rows", async () => (await page.locator("#quotes li").count()) === 30);
	await until("a row that flashes", async () => (await page.locator("#quotes li.rose, #quotes li.fell").count()) > 0);
	await page.locator("#quotes button", { hasText: "BYTE" }).click();
	assert.equal(await page.locator("#name").textContent(), "Bytewright");
	await until("the panel is told", async () => Number(await page.locator("#told").textContent()) >= 1);
	await until("a line", async () => ((await page.locator("#line").getAttribute("d")) ?? "").split("L").length > 3);
	assert.equal(await page.locator("#movers button").count(), 2);
	await page.fill("#find", "bank");
	assert.deepEqual(await page.locator("#quotes li:visible b").allTextContents(), ["HARB"]);
	await page.fill("#find", "nobody");
	assert.ok(await page.locator("#none").isVisible());
	assert.deepEqual(errors, []);
});
