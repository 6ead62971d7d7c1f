// Talking to the server: a send is repeated until it is answered, so that nothing is lost to a bad connection.

const PAUSES = [1, 2, 4, 8, 15]; // seconds

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(20000) });
  const value = await answer.json().catch(() => ({ error: answer.statusText }));
  if (!answer.ok) throw new Refused(answer.status, value.error);
  return value;
}

// As `ask`, again and again while the network or the server fails; `waiting(message)` is told of every failure.
export async function askUntilAnswered(path, body, waiting) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask(path, body);
    } catch (error) {
      const final = error instanceof Refused && error.status < 500 && error.status !== 429;
      if (final) throw error;
      waiting(error instanceof Refused ? error.message : "");
      const seconds = PAUSES[Math.min(attempt, PAUSES.length - 1)];
      await new Promise((go) => {
        setTimeout(go, seconds * 1000);
        window.addEventListener("online", go, { once: true });
      });
    }
  }
}
