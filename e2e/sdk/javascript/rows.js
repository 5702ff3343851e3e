// Rows of the fact sheet: run a check, print one verdict line for the runner.
'use strict';

const assert = require('node:assert');

/** Runs `check`; the line `ROW <name> passed` or `ROW <name> FAILED <why>` is what the runner reads. */
async function row(name, check) {
  try {
    await check();
    console.log(`ROW ${name} passed`);
  } catch (error) {
    console.error(error);
    console.log(`ROW ${name} FAILED ${String(error?.message ?? error).replace(/\s+/g, ' ')}`);
  }
}

/** Compares two values. */
function same(what, expected, found) {
  assert.deepStrictEqual(found, expected, `${what}: expected ${JSON.stringify(expected)}, found ${JSON.stringify(found)}`);
}

/** Returns the error that `work` must end with. */
async function fails(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error('no error');
}

module.exports = { row, same, fails };
