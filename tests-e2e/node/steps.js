// What the scripts here have in common.

'use strict';

/** What an SDK's call gave, without the answer around it, which has two shapes. */
function body(given) {
  if (given.responseBody !== undefined) return given.responseBody;
  return 'message' in given && 'result' in given ? given.result : given;
}

/** How a call was refused: the SDK's name of the error, the status, and all that is said of it. */
async function attempt(promise) {
  try {
    await promise;
    return { refused: false };
  } catch (error) {
    const response = error.response;
    return { refused: true, name: error.name, status: response && response.statusCode, message: `${error.message} ${error.responseBody || ''}` };
  }
}

/** Runs a script with the connection string of UNICITY_CONNECTION_STRING, and prints what it gives. */
function main(script) {
  script(process.env.UNICITY_CONNECTION_STRING).then(
    (seen) => process.stdout.write(`${JSON.stringify(seen)}\n`),
    (error) => {
      process.stderr.write(`${error.stack}\n${error.responseBody || ''}\n`);
      process.exitCode = 1;
    }
  );
}

module.exports = { attempt, body, main };
