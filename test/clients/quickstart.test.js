// The quickstart's page in a browser.
import assert from "node:assert/strict";
import test from "node:test";
import { browser } from "./browser.js";
import { caddy, cutter, freePort, until } from "./support.js";

test("the quickstart's page follows its quotes", async (t) => {
  const [port, api, admin] = [await freePort(), await freePort(), await freePort()];
  await caddy(t, { config: "examples/quickstart/Caddyfile", port, env: { PORT: `${port}`, API_PORT: `${api}`, CADDY_ADMIN: `127.0.0.1:${admin}` } });
  const cut = await cutter(t, port);
  const page = await (await browser(t, { viewport: { width: 1280, height: 1400 } })).newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(`${error}`));
  const codings = []; // of the streams
  page.on("response", (response) => {
    const header = response.headers();
    if (header["content-type"]?.startsWith("text/event-stream")) codings.push(header["content-encoding"]);
  });
  await page.goto(`http://127.0.0.1:${cut.port}/`);
  const number = async (id) => Number((await page.locator(id).textContent()).replaceAll(/[^\d]/g, ""));
  const text = (id) => page.locator(id).textContent();

  await until("live", async () => (await page.locator("#state").getAttribute("data-state")) === "live");
  await until("rows", async () => (await page.locator("#quotes tr").count()) >= 20);
  await until("a row that flashes", async () => (await page.locator("#quotes tr.up, #quotes tr.down").count()) > 0);
  await until("events", async () => (await number("#events")) >= 6);
  const events = await number("#events");

  cut.now();
  await until("a resume", () => cut.requests.find((request) => /^GET \/api\/quotes\?last_event_id=[\w-]{22} /.test(request)));
  await until("more events after the cut", async () => (await number("#events")) >= events + 4);
  // What the server counts, against all who look polling once a second.
  await until("requests", async () => (await number("#asked")) >= 3 && (await number("#would")) >= 3);
  assert.equal(await text("#viewers"), "1 browser");
  await until("savings", async () => /\d/.test(await text("#saved")) && /\d/.test(await text("#received")) && /\d/.test(await text("#polling")));

  // The page has what the same URL gives as JSON.
  await until("the page's prices are the document's", async () => {
    const document = await (await fetch(`http://127.0.0.1:${port}/api/quotes`)).json();
    const rows = await page.locator("#quotes tr").allTextContents();
    const quotes = Array.isArray(document) ? document : Object.values(document).find(Array.isArray);
    return rows.length === quotes.length && quotes.every((quote) => rows.some((row) => row.includes(quote.symbol)));
  });
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
  assert.deepEqual(errors, []);
  assert.deepEqual([...new Set(codings)], ["gzip"], "the browser decoded compressed streams, the second one joined in the middle");
});
