// Chromium by its own protocol. playwright tells every page that it is visible;
// what happens to pages that are hidden needs one that is left alone.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

let launched; // one for all tests of a file
after(() => launched?.close());

// launch starts a browser that is soon sparing with the timers of hidden pages.
function launch() {
	const profile = mkdtempSync(join(tmpdir(), "chromium-"));
	const child = spawn(
		process.env.CHROMIUM ?? "/usr/bin/chromium",
		["--headless", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/2", "about:blank"],
		{ stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
	);
	const ended = new Promise((resolve) => child.on("exit", resolve));
	const waiting = new Map();
	let last = 0, text = "";
	child.stdio[4].on("data", (data) => {
		const messages = (text += data).split("\0");
		text = messages.pop();
		for (const message of messages.map((one) => JSON.parse(one))) {
			const { resolve, reject } = waiting.get(message.id) ?? {};
			waiting.delete(message.id);
			message.error ? reject?.(new Error(message.error.message)) : resolve?.(message.result);
		}
	});
	const send = (method, params = {}, sessionId) => new Promise((resolve, reject) => {
		const id = ++last;
		waiting.set(id, { resolve, reject });
		child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
	});
	const close = async () => {
		send("Browser.close").catch(() => {});
		await ended;
		rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
	};
	return { send, close };
}

// devtools opens pages, which are closed when the test ends.
export function devtools(t) {
	const { send } = (launched ??= launch());
	return {
		async open(url) {
			const { targetId } = await send("Target.createTarget", { url });
			t.after(() => send("Target.closeTarget", { targetId }));
			const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
			return {
				send: (method, params) => send(method, params, sessionId),
				show: () => send("Target.activateTarget", { targetId }),
				async evaluate(expression) {
					const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }, sessionId);
					if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
					return result.value;
				},
			};
		},
	};
}
