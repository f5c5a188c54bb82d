// What a page in a real Chromium can read of a front door, even if it knows the secret.
//
//   page.mjs ADDRESS SECRET        ADDRESS is 127.0.0.1:PORT
//
// The page is on another site; a rebound name leads to the door itself, so that the page there is of the door's own origin.
// Prints one line of JSON: {"ok": true, "attempts": {NAME: what the page could read, or how it failed}}.

import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

// The packages are not beside this file, but where scripts/setup puts them.
const require = createRequire(new URL("../../.deps/node/", import.meta.url));
const { chromium } = require("playwright-core");

const [address, secret] = process.argv.slice(2);
const port = address.split(":")[1];
const identity = "/msi/token?api-version=2019-08-01&resource=https://management.azure.com";
const azd = "/token?api-version=2023-07-12-preview";
const body = JSON.stringify({ scopes: ["https://management.azure.com/.default"] });

const site = createServer((request, answer) => {
  // a redirect, as a server that was tricked would follow it
  if (request.url === "/redirect") answer.writeHead(307, { location: `http://${address}${identity}` });
  else answer.writeHead(200, { "content-type": "text/html" });
  answer.end("<p>a page");
});
await new Promise((listening) => site.listen(0, "127.0.0.1", listening));

const profile = mkdtempSync(join(tmpdir(), "page-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--password-store=basic",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
    // the strictest pages of today may not ask loopback at all; those of yesterday could
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
  ],
});
const page = context.pages()[0] ?? (await context.newPage());
const elsewhere = `http://attacker.example:${site.address().port}/`;

// Runs in the page.
async function read([url, options]) {
  try {
    const answer = await fetch(url, options);
    return `${answer.type} ${answer.status} ${await answer.text()}`;
  } catch (error) {
    return `failed: ${error.message}`;
  }
}

const attempts = {};
async function from(start, name, attempt) {
  await page.goto(start).catch(() => {});
  attempts[name] = await attempt().catch((error) => `failed: ${error.message}`);
}
const fetched = (url, options) => () => page.evaluate(read, [url, options]);
const headers = { "X-IDENTITY-HEADER": secret, Metadata: "true" };
const bearer = { Authorization: `Bearer ${secret}`, "Content-Type": "application/json" };
const door = `http://${address}`;
const rebound = `http://rebound.example:${port}`;

await from(elsewhere, "fetch with the secret", fetched(door + identity, { headers }));
await from(elsewhere, "fetch without headers", fetched(door + identity, { mode: "no-cors" }));
await from(elsewhere, "fetch of a redirect", fetched("/redirect", { headers }));
await from(elsewhere, "post with the secret", fetched(door + azd, { method: "POST", headers: bearer, body }));
await from(elsewhere, "post of plain text", fetched(door + azd, { method: "POST", mode: "no-cors", body }));
await from(elsewhere, "fetch of an older browser", fetched(door + identity, { headers, referrerPolicy: "no-referrer", mode: "same-origin" }));
await from(elsewhere, "a script of the door", () =>
  page.evaluate(
    (url) =>
      new Promise((done) => {
        const script = document.createElement("script");
        script.onload = () => done("loaded");
        script.onerror = () => done("failed: error");
        script.src = url;
        document.body.append(script);
      }),
    door + identity,
  ),
);
await from(elsewhere, "a frame of the door", async () => {
  await page.evaluate((url) => {
    const frame = document.createElement("iframe");
    frame.src = url;
    document.body.append(frame);
    return new Promise((done) => (frame.onload = done));
  }, door + identity);
  return page.frames().at(-1).innerText("body");
});
await from(elsewhere, "a form to the door", async () => {
  const loaded = page.waitForEvent("load");
  await page.evaluate((url) => {
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: url, enctype: "text/plain" });
    document.body.append(form);
    form.submit();
  }, door + azd);
  await loaded;
  return page.innerText("body");
});
await from(elsewhere, "a web socket", () =>
  page.evaluate(
    (url) =>
      new Promise((done) => {
        const socket = new WebSocket(url);
        socket.onopen = () => done("opened");
        socket.onerror = () => done("failed: error");
      }),
    `ws://${address}${identity}`,
  ),
);
await from(door + identity, "an address that was typed", () => page.innerText("body"));
await from(door + identity, "a page of the door", fetched(identity, { headers }));
await from(rebound + identity, "a rebound name that was typed", () => page.innerText("body"));
await from(rebound + identity, "a page of a rebound name", fetched(identity, { headers }));
await from(rebound + identity, "a post of a rebound name", fetched(azd, { method: "POST", headers: bearer, body }));

console.log(JSON.stringify({ ok: true, attempts }));
await context.close();
site.close();
rmSync(profile, { recursive: true, force: true });
