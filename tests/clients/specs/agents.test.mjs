// The official clients of the protocols that the agents speak, unchanged, against one running server:
// OpenAI's packages, the AI SDK's chat transport, and MCP's SDK over HTTP and over stdio.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { DefaultChatTransport, readUIMessageStream } from 'ai';
import OpenAI from 'openai';

import { PATIENCE, ROOT, start } from '../server.mjs';

const options = { timeout: 2 * PATIENCE };
const QUESTION = 'What was the pass rate in March 2026?';
let server;
let expected;

before(async () => {
  server = await start();
  const asked = await fetch(`${server.base}/api/ask`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${server.token}` },
    body: JSON.stringify({ question: QUESTION }),
  });
  const answer = await asked.json();
  assert.equal(answer.behaviour, 'answer', JSON.stringify(answer));
  assert.ok(Number(Object.values(answer.rows[0])[0]) > 0);
  expected = answer.answer;
}, options);
after(() => server?.stop(), options);

const openai = (apiKey = server.token) => new OpenAI({ apiKey, baseURL: `${server.base}/v1`, maxRetries: 0 });
const messages = [{ role: 'user', content: QUESTION }];

test('the openai package lists the model and completes', options, async () => {
  const models = [];
  for await (const model of openai().models.list()) models.push(model.id);
  assert.ok(models.includes('ballpoint'), models);
  const completion = await openai().chat.completions.create({ model: 'ballpoint', messages });
  assert.ok(completion.choices[0].message.content.includes(expected), completion.choices[0].message.content);
  assert.equal(completion.choices[0].finish_reason, 'stop');
});

test('the openai package reads the stream, its helper too', options, async () => {
  const asked = { model: 'ballpoint', messages, stream_options: { include_usage: true } };
  let text = '';
  let usage;
  for await (const chunk of await openai().chat.completions.create({ ...asked, stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.ok(text.includes(expected), text);
  assert.equal(typeof usage.total_tokens, 'number');
  const helped = openai().chat.completions.stream({ model: 'ballpoint', messages });
  assert.ok((await helped.finalContent()).includes(expected));
});

test('what is refused is an error of the openai package', options, async () => {
  const create = (client, model) => client.chat.completions.create({ model, messages });
  await assert.rejects(create(openai('guess'), 'ballpoint'), OpenAI.AuthenticationError);
  await assert.rejects(create(openai(), 'gpt-none'), OpenAI.NotFoundError);
});

test('the openai package of Python completes, streams and refuses', options, () => {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const venv = process.env.BALLPOINT_PYTHON_CLIENTS_VENV ?? join(cache, 'ballpoint/python-clients-venv');
  const program = join(ROOT, 'tests/python_clients/chat.py');
  const arguments_ = [program, server.base, server.token, QUESTION, expected];
  const ran = spawnSync(join(venv, 'bin/python'), arguments_, { encoding: 'utf8' });
  assert.equal(ran.status, 0, `${ran.error ?? ''}${ran.stderr} (tools/setup test installs it)`);
  assert.match(ran.stdout, /^openai \d/);
});

test('the AI SDK reads a turn with its own schema', options, async () => {
  const transport = new DefaultChatTransport({
    api: `${server.base}/api/chat/stream`,
    headers: { authorization: `Bearer ${server.token}` },
  });
  const stream = await transport.sendMessages({
    chatId: crypto.randomUUID(),
    messages: [{ id: 'one', role: 'user', parts: [{ type: 'text', text: QUESTION }] }],
    trigger: 'submit-message',
  });
  let message;
  const errors = [];
  for await (const state of readUIMessageStream({ stream, onError: (error) => errors.push(error) })) message = state;
  assert.deepEqual(errors, []);
  assert.equal(message.role, 'assistant');
  const texts = message.parts.filter((part) => part.type === 'text');
  assert.equal(texts.map((part) => part.text).join(''), expected);
  assert.ok(texts.every((part) => part.state === 'done'));
  const answer = message.parts.find((part) => part.type === 'data-answer');
  assert.ok(answer.data.proof_id, JSON.stringify(answer));
});

/** What each tool is called with; a tool that is not here is one that no test knows. */
const CALLS = {
  list_metrics: { search: 'pass' },
  describe_metric: { name: 'Production.passRate' },
  get_dimension_values: { dimension: 'Production.componentType' },
  query_metrics: { measures: ['Production.count'], dimensions: ['Production.componentType'] },
  explain_query: { measures: ['Production.count'] },
  ask: { question: QUESTION },
  pipeline_status: {},
};

async function callsEveryTool(transport) {
  const client = new Client({ name: 'client-tests', version: '1' });
  await client.connect(transport);
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name).sort(), Object.keys(CALLS).sort());
  for (const tool of tools) {
    const result = await client.callTool({ name: tool.name, arguments: CALLS[tool.name] });
    assert.ok(!result.isError, `${tool.name}: ${JSON.stringify(result.content)}`);
    const text = result.content.map((part) => part.text).join('');
    assert.ok(text.length > 2, tool.name);
    if (tool.name === 'ask') assert.ok(text.includes(expected), text);
  }
  const wrong = await client.callTool({ name: 'describe_metric', arguments: { name: 'Production.passRat' } });
  assert.ok(wrong.isError);
  assert.match(wrong.content[0].text, /passRate/);
  const { resources } = await client.listResources();
  assert.ok(resources.length > 0);
  const read = await client.readResource({ uri: resources[0].uri });
  assert.ok(read.contents[0].text.length > 0);
  await client.close();
}

test('an MCP client lists and calls every tool over HTTP', options, async () => {
  const requestInit = { headers: { authorization: `Bearer ${server.token}` } };
  await callsEveryTool(new StreamableHTTPClientTransport(new URL(`${server.base}/mcp`), { requestInit }));
});

test('an MCP client lists and calls every tool over stdio', options, async () => {
  const args = ['--data-dir', server.dataDir, 'mcp'];
  await callsEveryTool(new StdioClientTransport({ command: server.program, args, cwd: server.folder, stderr: 'ignore' }));
});
