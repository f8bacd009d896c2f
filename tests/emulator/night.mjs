// One night by Google's JavaScript SDK: node night.mjs FOLDER-OF-PACKAGES ADDRESS
// Prints what it saw as one JSON object; the test beside it judges.
import { createRequire } from 'node:module';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const [packages, address] = process.argv.slice(2);
const { GoogleGenAI } = createRequire(join(packages, 'package.json'))('@google/genai');
const ai = new GoogleGenAI({ apiKey: 'first-key', httpOptions: { baseUrl: address } });
const model = 'gemini-2.5-flash-image';

const advance = (seconds) =>
  fetch(`${address}/_clock`, { method: 'POST', body: JSON.stringify({ advance: seconds }) });

const rows = ['red', 'green', 'blue'].map((colour) => ({
  key: colour,
  request: { contents: [{ role: 'user', parts: [{ text: `a ${colour} mug` }] }] },
}));
const lines = rows.map((row) => JSON.stringify(row)).join('\n');
const file = await ai.files.upload({
  file: new Blob([lines], { type: 'application/jsonl' }),
  config: { displayName: 'rows', mimeType: 'application/jsonl' },
});
const job = await ai.batches.create({ model, src: file.name, config: { displayName: 'night' } });
const listed = [];
for await (const found of await ai.batches.list()) listed.push(found.name);
await advance(3600);
const done = await ai.batches.get({ name: job.name });
const folder = mkdtempSync(join(tmpdir(), 'night-'));
const target = join(folder, 'result.jsonl');
await ai.files.download({ file: done.dest.fileName, downloadPath: target });
const other = await ai.batches.create({ model, src: file.name });
await ai.batches.cancel({ name: other.name });
const cancelled = await ai.batches.get({ name: other.name });
await ai.batches.delete({ name: other.name });
const answer = await ai.models.generateContent({ model, contents: 'a red mug' });
await ai.files.delete({ name: file.name });
let gone;
try {
  await ai.files.get({ name: file.name });
} catch (error) {
  gone = error.status;
}
// The SDK's download returns before its stream has ended.
let result = '';
for (let tries = 0; tries < 200 && result.split('\n').length <= rows.length; tries += 1) {
  await new Promise((resolve) => setTimeout(resolve, 25));
  try {
    result = readFileSync(target, 'utf8');
  } catch {
    result = '';
  }
}
rmSync(folder, { recursive: true });
console.log(
  JSON.stringify({
    uploaded: file.sizeBytes,
    listed: listed.includes(job.name),
    state: done.state,
    keys: result.split('\n').filter(Boolean).map((line) => JSON.parse(line).key).sort(),
    cancelled: cancelled.state,
    picture: answer.candidates[0].content.parts.some((part) => part.inlineData?.mimeType === 'image/png'),
    gone,
  }),
);
