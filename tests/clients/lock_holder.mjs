// Holds the lock of @azure/msal-node-extensions until stdin is closed.
//
//   lock_holder.mjs LOCKFILE       the cache's path with `.lockfile` behind it
//
// Prints {"held": true, "pid"}, or {"held": false, "pid", "message"} with exit code 1 if the lock was somebody else's for
// the five seconds for which @azure/identity-cache-persistence waits.

// The package does not export its lock.
const lock = "../../.deps/node/node_modules/@azure/msal-node-extensions/dist/lock/CrossPlatformLock.mjs";
const { CrossPlatformLock } = await import(new URL(lock, import.meta.url));

const nothing = () => {};
const logger = { error: nothing, info: nothing, warning: nothing };
const held = new CrossPlatformLock(process.argv[2], logger, { retryNumber: 100, retryDelay: 50 });
try {
  await held.lock();
  console.log(JSON.stringify({ held: true, pid: process.pid }));
  process.stdin.resume();
  await new Promise((resolve) => process.stdin.on("end", resolve));
  await held.unlock();
} catch (error) {
  console.log(JSON.stringify({ held: false, pid: process.pid, message: error.message }));
  process.exitCode = 1;
}
