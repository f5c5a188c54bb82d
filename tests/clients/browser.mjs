// Drives a real Chromium, without a window, through a plan of steps.
//
//   browser.mjs URL STEP...        each STEP one of
//     fill SELECTOR TEXT           types into a field
//     press SELECTOR               clicks, then waits for the page that follows
//     see TEXT                     waits until the page shows TEXT
//     reach TEXT                   waits until the address holds TEXT
//     visit URL                    goes there in the same tab, as a person does who has another page open
//     open URL                     fetches URL in a second tab: what a stray request of the browser is
//     scheme light|dark            what the person prefers
//     picture PATH                 keeps a picture of the page
//
// With no step it opens URL and waits for the page. TLS errors are ignored: the provider's certificate is made up, and a
// browser's checks are not what is tested. A step that takes longer than --timeout SECONDS (default 20) fails.
//
// Prints one line of JSON: {"ok", "url", "title", "status", "text", "visited": [the addresses of the tab, in order]}, and
// {"failed_step", "message"} besides, with exit code 1, if a step did not work.

import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// The packages are not beside this file, but where scripts/setup puts them.
const require = createRequire(new URL("../../.deps/node/", import.meta.url));
const { chromium } = require("playwright-core");

const ARGUMENTS = { fill: 2, press: 1, see: 1, reach: 1, visit: 1, open: 1, scheme: 1, picture: 1 };

function usage(message) {
  console.error(`browser.mjs: ${message}; the head of this file lists the steps`);
  process.exit(2);
}

function parse(args) {
  let timeout = 20;
  if (args[0] === "--timeout") {
    timeout = Number(args[1]);
    args = args.slice(2);
  }
  const [url, ...rest] = args;
  if (!url) usage("no URL");
  const steps = [];
  while (rest.length > 0) {
    const verb = rest.shift();
    const count = ARGUMENTS[verb];
    if (count === undefined) usage(`unknown step ${verb}`);
    if (rest.length < count) usage(`${verb} wants ${count} arguments`);
    steps.push([verb, ...rest.splice(0, count)]);
  }
  return { url, steps, timeout: timeout * 1000 };
}

const plan = parse(process.argv.slice(2));
const profile = mkdtempSync(join(tmpdir(), "browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  ignoreHTTPSErrors: true,
  // Root cannot use the sandbox, and small containers have a small /dev/shm. The keyring belongs to the tests.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--password-store=basic"],
});
context.setDefaultTimeout(plan.timeout);
const page = context.pages()[0] ?? (await context.newPage());

const visited = [];
let status;
page.on("framenavigated", (frame) => {
  if (frame === page.mainFrame()) visited.push(frame.url());
});
page.on("response", (response) => {
  if (response.frame() === page.mainFrame() && response.request().isNavigationRequest()) status = response.status();
});

const verbs = {
  fill: (selector, text) => page.fill(selector, text),
  async press(selector) {
    const loaded = page.waitForEvent("load");
    await page.click(selector);
    await loaded;
  },
  see: (text) => page.getByText(text).first().waitFor(),
  reach: (text) => page.waitForURL((url) => url.href.includes(text)),
  visit: (url) => page.goto(url),
  async open(url) {
    const tab = await context.newPage();
    await tab.goto(url);
    await tab.close();
  },
  scheme: (colorScheme) => page.emulateMedia({ colorScheme }),
  picture: (path) => page.screenshot({ path, fullPage: true }),
};

async function report(more) {
  const title = await page.title().catch(() => "");
  const text = await page.innerText("body", { timeout: 1000 }).catch(() => "");
  console.log(JSON.stringify({ url: page.url(), title, status, text, visited, ...more }));
}

let step = ["visit", plan.url];
try {
  await page.goto(plan.url);
  for (step of plan.steps) {
    const [verb, ...args] = step;
    await verbs[verb](...args);
  }
  await report({ ok: true });
} catch (error) {
  await report({ ok: false, failed_step: step, message: error.message });
  process.exitCode = 1;
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
