// Starts the examples that have pages.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { caddy, freePort, root, until } from "./support.js";

export async function example(t, name) {
	const [port, api, admin] = [await freePort(), await freePort(), await freePort()];
	if (name === "chat") {
		const folder = mkdtempSync(join(tmpdir(), "legacy-"));
		execFileSync("go", ["build", "-o", join(folder, "legacy"), "./examples/chat/legacy"], { cwd: root });
		const legacy = spawn(join(folder, "legacy"), ["-listen", `localhost:${api}`], { stdio: "ignore" });
		t.after(() => {
			legacy.kill();
			rmSync(folder, { recursive: true });
		});
		await until("the legacy API answers", () => fetch(`http://localhost:${api}/messages`).then(() => true, () => false));
	}
	await caddy(t, { config: `examples/${name}/Caddyfile`, port, env: { PORT: `${port}`, API_PORT: `${api}`, CADDY_ADMIN: `127.0.0.1:${admin}` } });
	return { port, api, url: `http://127.0.0.1:${port}/` };
}
