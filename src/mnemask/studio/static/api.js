// Requests to the server, and the encoding of masks.

/** An error from the server, with a message for the user. */
export class Refused extends Error {
  /** @param {string} message @param {boolean} [unanswered] whether there was no answer at all */
  constructor(message, unanswered = false) { super(message); this.unanswered = unanswered; }
}

export class Api {
  /** @param {string} project */
  constructor(project) {
    this.base = `/api/projects/${encodeURIComponent(project)}`;
  }

  /** @param {string} path @param {RequestInit} [options] @returns {Promise<Response>} */
  async ask(path, options) {
    return await ask(this.base + path, options);
  }

  /** @returns {Promise<State>} */
  async state() {
    return await (await this.ask("")).json();
  }

  /** @param {number} bins @returns {Promise<Timeline>} */
  async timeline(bins) {
    return await (await this.ask(`/timeline?bins=${bins}`)).json();
  }

  /** @param {number} frame @param {number} height @returns {Promise<ImageBitmap>} */
  async picture(frame, height) {
    return await createImageBitmap(await (await this.ask(`/frames/${frame}?h=${height}`)).blob());
  }

  /** @param {number} frame @returns {Promise<Labels>} */
  async labels(frame) {
    return await labelsOf(await this.ask(`/labels/${frame}`));
  }

  /** @param {object} action @returns {Promise<State>} */
  async act(action) {
    return await (await this.post("/actions", action)).json();
  }

  /** @param {string} path @param {object} body */
  async post(path, body) {
    return await this.ask(path, { method: "POST", body: JSON.stringify(body) });
  }

  /** @param {object} body @returns {Promise<Labels>} */
  async click(body) {
    return await labelsOf(await this.post("/clicks", body));
  }

  /** @param {number} frame @param {number} object @param {string} tool @param {Uint32Array} body runs @param {string} change what it does to the mask @returns {Promise<State>} */
  async paint(frame, object, tool, body, change) {
    const path = `/masks?frame=${frame}&object=${object}&tool=${tool}&change=${change}`;
    return await (await this.ask(path, { method: "POST", body: new Blob([/** @type {BlobPart} */ (body)]) })).json();
  }

  /**
   * Calls back with each event, and with null when the connection is lost; reconnects automatically.
   * @param {(event: State | Job | null) => void} tell
   * @returns {() => void} a function that ends it
   */
  listen(tell) {
    let wait = 250, ended = false;
    /** @type {WebSocket | undefined} */
    let socket;
    const connect = () => {
      if (ended) return; // while it waited to reconnect
      socket = new WebSocket(`ws://${location.host}${this.base}/events`);
      socket.onopen = () => { wait = 250; };
      socket.onmessage = (message) => tell(JSON.parse(message.data));
      socket.onclose = () => {
        if (ended) return;
        tell(null);
        setTimeout(connect, wait);
        wait = Math.min(wait * 2, 4000);
      };
    };
    connect();
    return () => { ended = true; socket?.close(); };
  }
}

/** @param {string} path @param {RequestInit} [options] */
export async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused("The studio is not responding. Is it still running in the terminal?", true);
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let reason = text;
  try { reason = JSON.parse(text).error; } catch { /* plain text */ }
  throw new Refused(reason || `The studio answered with status ${answer.status}.`);
}

/** @param {Response} answer @returns {Promise<Labels>} */
async function labelsOf(answer) {
  const values = new Uint32Array(await answer.arrayBuffer());
  const [width, height] = values;
  const ids = new Uint16Array(width * height);
  for (let i = 2, at = 0; i < values.length; i += 2) {
    const end = at + values[i + 1];
    if (values[i]) ids.fill(values[i], at, end);
    at = end;
  }
  return { width, height, ids, ...JSON.parse(answer.headers.get("x-frame") ?? "{}") };
}

/** Encodes a mask as runs. @param {Uint8Array} mask 0 or 1 for each pixel @param {number} width @param {number} height @returns {Uint32Array} */
export function writeMask(mask, width, height) {
  const runs = [width, height];
  let inside = false, length = 0;
  for (const value of mask) {
    if (!!value !== inside) {
      runs.push(length);
      inside = !inside;
      length = 0;
    }
    length++;
  }
  runs.push(length);
  return new Uint32Array(runs);
}
