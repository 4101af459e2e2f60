// What the page does: asks for lyrics and sets them as verse, and shows what is live and in training.
// It knows the HTTP API and nothing behind it.

const RETRY_MS = 3000;
const CLOCK_MS = 10_000;

const $ = (id) => document.getElementById(id);
const form = $("ask");
const tail = $("tail");

let running = null; // AbortController of the stream being read
let live; // undefined: not heard yet, null: no version is live
let lastLive = null; // what was live when something last was
let counted = null; // tokens in all at the last look, and when that was
const versions = new Map(); // by digest, all that this page has seen live

// Asking

async function generate() {
  running = new AbortController();
  const { signal } = running;
  showButton();
  showProblem("");
  try {
    await stream(await ask($("prompt").value, signal));
  } catch (error) {
    if (!signal.aborted) showProblem(inWords(error));
  } finally {
    running = null;
    endVerse();
    showButton();
    if (!$("source").hidden) showKnown().catch(() => {}); // nice to know, no more
  }
}

async function ask(prompt, signal) {
  const body = {
    prompt,
    max_tokens: Number(form.elements.tokens.value),
    temperature: Number($("temperature").value),
    stream: true,
  };
  const response = await call("/v1/completions", { method: "POST", body: JSON.stringify(body), signal });
  if (!response.ok) throw new Error(await refusal(response));
  beginVerse(prompt);
  showSource(response.headers);
  return response;
}

// Where the service asks for a key, the page does, and keeps it for as long as its tab is open.
async function call(path, options = {}) {
  const headers = { "content-type": "application/json" };
  const key = sessionStorage.getItem("api-key"); // `.key` is a method of every storage
  if (key) headers.authorization = `Bearer ${key}`;
  const response = await fetch(path, { ...options, headers });
  $("door").hidden = response.status !== 401;
  return response;
}

async function stream(response) {
  for await (const events of eventsOf(response.body)) {
    const batch = events.map(({ data }) => data).filter((data) => data !== "");
    const done = batch.indexOf("[DONE]");
    const frames = batch.slice(0, done < 0 ? batch.length : done).map((data) => JSON.parse(data));
    const failed = frames.find((frame) => frame.error);
    if (failed) throw new Error(failed.error.message);
    write(frames.map((frame) => frame.choices[0].text).join(""));
    if (done >= 0) return;
  }
  throw new Error("The answer broke off before its end.");
}

// Yields the server-sent events that have arrived, one list per network read.
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split(/\r?\n\r?\n/);
    rest = events.pop();
    yield events.map((event) => ({ name: field(event, "event"), data: field(event, "data") }));
  }
}

function field(event, name) {
  const lines = event.split(/\r?\n/).filter((line) => line.startsWith(`${name}:`));
  return lines.map((line) => line.slice(name.length + 1).replace(/^ /, "")).join("\n");
}

async function refusal(response) {
  const answer = await response.json().catch(() => null); // a proxy in between may not speak JSON
  return answer?.error?.message ?? `The service answered ${response.status} ${response.statusText}.`;
}

// fetch and its reader throw a TypeError for every failure of the network.
function inWords(error) {
  if (error instanceof TypeError) return "The service cannot be reached. Is lyrics-lm still running?";
  return error.message.charAt(0).toUpperCase() + error.message.slice(1);
}

function showButton() {
  $("go").textContent = running ? "Stop" : "Generate";
  $("go").classList.toggle("stops", running !== null);
  $("go").disabled = !running && !live;
}

function showProblem(words) {
  $("problem").textContent = words;
  $("problem").hidden = !words;
}

// Verse: whole lines are set above the growing one, so a screen reader hears lines, not letters.

function beginVerse(prompt) {
  tail.replaceChildren();
  $("verse").replaceChildren(tail);
  $("verse").classList.add("writing");
  $("blank").hidden = true;
  write(prompt, yours);
  tail.scrollIntoView({ block: "nearest" });
}

function write(text, style = (piece) => piece) {
  const followed = tail.getBoundingClientRect().bottom <= innerHeight;
  const [first, ...others] = text.split("\n");
  tail.append(style(first));
  for (const piece of others) {
    endLine();
    tail.append(style(piece));
  }
  if (followed) tail.scrollIntoView({ block: "nearest" });
}

function yours(text) {
  const span = document.createElement("span");
  span.className = "prompt";
  span.textContent = text;
  return span;
}

function endLine() {
  const line = document.createElement("div");
  line.className = "line";
  line.append(...tail.childNodes);
  line.normalize(); // one text node, or readers spell it out
  if (!line.textContent) line.append(document.createElement("br"));
  tail.before(line);
}

function endVerse() {
  if (tail.textContent) endLine();
  $("verse").classList.remove("writing");
}

function showSource(headers) {
  const digest = headers.get("x-model-digest");
  const known = versions.get(digest);
  $("author").textContent = `Written by ${known ? title(known) : `bundle ${short(digest)}`}`;
  $("why").textContent = `lyrics-lm why ${headers.get("x-request-id")}`;
  $("copy").textContent = "copy";
  $("known").hidden = true;
  $("source").hidden = false;
}

// Lines that the model wrote, the prompt's left aside, and whether a training song has any.
async function showKnown() {
  const lines = [...$("verse").querySelectorAll(".line:not(#tail)")].filter((line) => !line.querySelector(".prompt"));
  const body = JSON.stringify({ text: lines.map((line) => line.textContent).join("\n") });
  const response = await call("/lines", { method: "POST", body });
  if (!response.ok) return;
  const known = (await response.json()).lines;
  if (!known) return;
  const songs = lines.map((line) => known[line.textContent.trim()]);
  lines.forEach((line, place) => {
    line.classList.toggle("known", Boolean(songs[place]));
    if (songs[place]) line.title = `This line stands in “${songs[place]}”`;
  });
  const count = songs.filter(Boolean).length;
  const are = count === 1 ? "1 line stands" : `${count} lines stand`;
  $("known").textContent = count ? `${are} word for word in training songs, underlined` : "No line stands in a training song";
  $("known").hidden = false;
}

async function copyWhy() {
  await navigator.clipboard.writeText($("why").textContent);
  $("copy").textContent = "copied";
}

// What is live

const title = ({ version, architecture }) => `version ${version} · ${architecture}`;
const short = (digest) => digest.slice(0, 12);
const bits = ({ bits_per_char }) => bits_per_char.toFixed(2);
const within = ({ interval }) => (interval ? ` (${interval.map((value) => value.toFixed(2)).join(" to ")})` : "");

function showLive(now) {
  if (now) announce(now);
  live = now;
  lastLive = now ?? lastLive;
  $("live").hidden = !now;
  $("blank").textContent = now ? "Write a first line, or leave it to the model." : "The first model is being counted…";
  if (now) showVersion(now);
  showState();
  showButton();
}

function announce(now) {
  versions.set(now.digest, now);
  const isNew = lastLive ? lastLive.digest !== now.digest : live === null;
  if (!isNew) return;
  const [event, before] = lastLive ? ["took over", ` (was ${bits(lastLive)})`] : ["is live", ""];
  const line = `${title(now)} ${event}, ${bits(now)} bits per character${before}`;
  $("news").textContent = line.charAt(0).toUpperCase() + line.slice(1);
  $("news").classList.add("fresh");
}

function showVersion(now) {
  $("version").textContent = now.version;
  $("architecture").textContent = now.architecture;
  $("bits").textContent = bits(now) + within(now);
  $("digest").textContent = short(now.digest);
  $("digest").title = now.digest;
  $("reason").textContent = now.reason;
  showSince();
}

function showSince() {
  if (!live) return;
  const since = new Date(live.since * 1000);
  $("since").textContent = ago((Date.now() - since) / 1000);
  $("since").dateTime = since.toISOString();
  $("since").title = since.toLocaleString();
}

function ago(seconds) {
  if (seconds < 60) return "just now";
  const [size, unit] = [[86_400, "day"], [3600, "hour"], [60, "minute"]].find(([size]) => seconds >= size);
  return new Intl.RelativeTimeFormat("en").format(-Math.floor(seconds / size), unit);
}

function showState(connected = true) {
  $("state").dataset.state = connected && live ? "live" : "waiting";
  const away = $("door").hidden ? "reconnecting…" : "an API key is needed";
  $("state").textContent = !connected ? away : live ? `version ${live.version} is live` : "no version yet";
}

function showTraining(progress) {
  $("training").hidden = !progress;
  if (!progress) return;
  const { model, step, steps, seconds_left } = progress;
  $("steps").max = steps;
  $("steps").value = step;
  $("pace").textContent = `${model}, step ${step} of ${steps}, ${bits(progress)} bits per character, ${clock(seconds_left)} left`;
}

// The evidence of drift on a logarithmic scale: proof at the top line, a hundredth at the bottom.
function showDrift(line) {
  $("drift").hidden = !line;
  if (!line) return;
  const { version, reference, reference_needed, requests, drift_detected, signal, proof, path } = line;
  const low = Math.log(0.01);
  const height = (value) => 6 + 40 * Math.min(1, Math.max(0, (Math.log(proof) - Math.log(value)) / (Math.log(proof) - low)));
  const step = 240 / Math.max(1, path.length - 1);
  $("path").setAttribute("points", path.map((value, place) => `${place * step},${height(Math.max(value, 1e-9))}`).join(" "));
  $("drift").classList.toggle("alarm", drift_detected);
  const usual = `${requests.toLocaleString("en")} requests like those before`;
  $("drifting").textContent = drift_detected
    ? `Prompts have drifted from what version ${version} met at first: ${signal}`
    : reference < reference_needed ? `${reference} of ${reference_needed} requests that say what is usual` : usual;
}

// A trial, while it lasts; a full bar is a proof, and the way there is logarithmic.
function showTrial(trial) {
  const running = Boolean(trial) && trial.share < 100;
  $("trial").hidden = !running;
  if (!running) return;
  const { version, share, prompts, difference, better, worse, proof, answers, errors } = trial;
  $("shares").textContent = share
    ? `Version ${version} has ${share}% of the clients, the champion ${100 - share}%.`
    : `Version ${version} answers in the shadow; every client has the champion.`;
  for (const [id, capital] of [["better", better], ["worse", worse]]) {
    $(id).value = Math.min(1, Math.max(0, Math.log(capital) / Math.log(proof)));
    $(id).title = `${capital.toPrecision(3)} of ${proof}`;
  }
  const count = (number) => number.toLocaleString("en");
  $("compared").textContent = count(prompts);
  $("difference").textContent = prompts ? `${difference < 0 ? "−" : "+"}${Math.abs(difference).toFixed(3)}` : "not known yet";
  $("failed").textContent = `${count(errors)} of ${count(answers)}`;
}

// Counters of the service; a rate is what came since the last look.
function showActivity({ requests, tokens, batch_size }) {
  const now = performance.now();
  const rate = counted ? (1000 * (tokens - counted.tokens)) / (now - counted.at) : 0;
  counted = { tokens, at: now };
  $("activity").hidden = false;
  $("streams").textContent = batch_size.toLocaleString("en");
  $("rate").textContent = Math.max(0, Math.round(rate)).toLocaleString("en");
  $("requests").textContent = requests.toLocaleString("en");
}

function clock(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// What the service tells by itself, until the line drops, and then anew. (EventSource could show no key.)
const SHOWN = { live: showLive, training: showTraining, drift: showDrift, trial: showTrial, activity: showActivity };

async function listen() {
  try {
    const response = await call("/events");
    if (!response.ok) throw new Error(await refusal(response));
    for await (const events of eventsOf(response.body)) {
      for (const { name, data } of events) SHOWN[name]?.(JSON.parse(data));
    }
  } catch (error) {
    if ($("door").hidden) console.warn(error);
  }
  showState(false);
  showTraining(null);
  setTimeout(listen, RETRY_MS);
}

async function firstLook() {
  const response = await call("/v1/models");
  if (response.ok) showLive((await response.json()).data[0] ?? null);
}

async function enter() {
  sessionStorage.setItem("api-key", $("key").value);
  $("key").value = "";
  await firstLook().catch(() => {}); // the next look tells
  showProblem($("door").hidden ? "" : "This key opens nothing. Another one is made by: lyrics-lm keys add NAME");
}

// Start

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else if (live) generate();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !running) form.requestSubmit();
});
$("temperature").addEventListener("input", () => {
  $("degrees").textContent = Number($("temperature").value).toFixed(2);
});
$("enter").addEventListener("click", enter);
$("key").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // of the form, which asks for lyrics
  event.stopPropagation();
  enter();
});
$("copy").addEventListener("click", copyWhy);
$("copy").hidden = !navigator.clipboard; // browsers give none over plain http from afar; the text selects whole
setInterval(showSince, CLOCK_MS);
firstLook().then(listen, listen); // the stream tells the same, where one gets through
