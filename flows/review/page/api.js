// What the server is asked, below the address of the page, which has the token.

export class Refused extends Error {
  constructor(message, status, answer) {
    super(message);
    this.status = status;
    this.state = answer.state;
  }
}

async function ask(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Refused("The server does not answer: start pseudomask review again, and open its new address.", 0, {});
  }
  if (response.ok) return response.json();
  const text = await response.text();
  let answer = {error: text};
  if (response.headers.get("content-type")?.includes("json")) answer = JSON.parse(text);
  throw new Refused(answer.error || response.statusText, response.status, answer);
}

export const address = (path, values) => `${path}?${new URLSearchParams(values)}`;
export const get = (path, values) => ask(address(path, values));
export const post = (path, message) =>
  ask(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(message)});
