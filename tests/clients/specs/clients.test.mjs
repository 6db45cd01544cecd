// Cube's published clients, unchanged, against one running server.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { meta } from '../schema.mjs';
import { JWT_SECRET, PATIENCE, ROOT, start } from '../server.mjs';

const require = createRequire(import.meta.url);
const cubejs = require('@cubejs-client/core').default;
const transport = require('@cubejs-client/ws-transport');
const WebSocketTransport = transport.default ?? transport;

const options = { timeout: 2 * PATIENCE };
const counted = { measures: ['Production.count'], dimensions: ['Production.componentType'] };
const daily = {
  measures: ['Production.count'],
  timeDimensions: [
    { dimension: 'Production.producedAt', granularity: 'day', dateRange: ['2026-03-01', '2026-03-07'] },
  ],
};
let server;
let client;

before(async () => {
  server = await start();
  client = cubejs(server.token, { apiUrl: server.api });
  const known = await (await fetch(`${server.api}/meta`, { headers: { authorization: server.token } })).json();
  const production = known.cubes.find((cube) => cube.name === 'Production');
  // The name of the time dimension is the model's to say.
  daily.timeDimensions[0].dimension = production.dimensions.find((it) => it.type === 'time').name;
}, options);
after(() => server?.stop(), options);

function signed(claims) {
  const text = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = `${text({ alg: 'HS256', typ: 'JWT' })}.${text(claims)}`;
  return `${body}.${createHmac('sha256', JWT_SECRET).update(body).digest('base64url')}`;
}

test('the core client loads, pivots and totals', options, async () => {
  const result = await client.load({ ...counted, total: true });
  const rows = result.tablePivot();
  assert.ok(rows.length > 1);
  assert.ok(rows.every((row) => Number(row['Production.count']) > 0));
  assert.equal(result.totalRows(), rows.length);
  assert.equal(result.tableColumns()[1].key, 'Production.count');
  assert.ok(result.tableColumns()[1].title.length > 0);
});

test('missing days are filled by the client from what the answer says of time', options, async () => {
  const result = await client.load(daily);
  assert.equal(result.chartPivot().length, 7);
  assert.equal(result.series()[0].series.length, 7);
});

test('compact and columnar answers hold the same rows', options, async () => {
  const query = { ...counted, order: [['Production.componentType', 'asc']] };
  const plain = (await client.load(query)).rawData();
  for (const responseFormat of ['compact', 'columnar']) {
    const result = await client.load({ ...query, responseFormat });
    assert.deepEqual(result.rawData(), plain, responseFormat);
  }
});

test('ranges are compared and queries blended', options, async () => {
  const time = daily.timeDimensions[0].dimension;
  const compared = await client.load({
    measures: ['Production.count'],
    timeDimensions: [{
      dimension: time,
      compareDateRange: [['2026-02-01', '2026-02-28'], ['2026-03-01', '2026-03-28']],
    }],
  });
  assert.equal(compared.decompose().length, 2);
  const blended = await client.load([daily, { ...daily, measures: [daily.measures[0]] }]);
  assert.equal(blended.queryType, 'blendingQuery');
});

test('meta, sql and dry-run are read by the client', options, async () => {
  const known = await client.meta();
  assert.ok(known.cubes.some((cube) => cube.name === 'Production'));
  assert.equal(known.resolveMember('Production.count', 'measures').type, 'number');
  const sql = await client.sql(counted);
  assert.match(sql.sql(), /^SELECT/);
  const dry = await client.dryRun(daily);
  assert.equal(dry.queryType, 'regularQuery');
  assert.deepEqual(dry.pivotQuery.measures, ['Production.count']);
});

test('SQL goes over HTTP, whole and as a stream', options, async () => {
  const sql = 'SELECT "componentType", MEASURE(count) AS n FROM "Production" GROUP BY 1 ORDER BY 1';
  const { schema, data, lastRefreshTime } = await client.cubeSql(sql);
  assert.deepEqual(schema, [
    { name: 'componentType', column_type: 'String' },
    { name: 'n', column_type: 'Int64' },
  ]);
  assert.ok(Date.parse(lastRefreshTime) > 0);
  const loaded = await client.load({ ...counted, order: [['Production.componentType', 'asc']] });
  const rows = loaded.rawData().map((row) => [row['Production.componentType'], row['Production.count']]);
  assert.deepEqual(data, rows);
  const chunks = [];
  for await (const chunk of client.cubeSqlStream(sql)) chunks.push(chunk);
  assert.deepEqual(chunks.map((chunk) => chunk.type), ['schema', 'data']);
  assert.deepEqual(chunks[1].data, rows);
  const none = await client.cubeSql('SELECT "componentType" FROM "Production" WHERE "componentType" = \'none\'');
  assert.deepEqual(none.data, []);
  await assert.rejects(client.cubeSql('SELECT nothing FROM "Production"'), /does not exist/);
  await assert.rejects(client.cubeSql('SELECT * FROM marts.fct_production'), /not served/);

  const headers = { authorization: server.token };
  const asked = new URLSearchParams({ format: 'sql', query: sql });
  const sent = await (await fetch(`${server.api}/sql?${asked}`, { headers })).json();
  assert.equal(sent.sql.status, 'ok');
  assert.match(sent.sql.sql[0], /^SELECT/);
  const refused = await fetch(`${server.api}/sql`, {
    method: 'POST',
    headers: { ...headers, 'content-type': 'application/json' },
    body: JSON.stringify({ format: 'sql', query: 'DROP TABLE x' }),
  });
  assert.equal((await refused.json()).sql.status, 'error');
});

test('an error names the nearest member', options, async () => {
  await assert.rejects(client.load({ measures: ['Production.cuont'] }), (error) => {
    assert.match(error.response?.error ?? error.message, /Production\.count/);
    return true;
  });
});

test('a query brings its own measure along', options, async () => {
  const query = { measures: ['Production.count', { name: 'half', sql: '{Production.count} / 2.0' }] };
  const reply = await fetch(`${server.api}/load`, {
    method: 'POST',
    headers: { authorization: server.token, 'content-type': 'application/json' },
    body: JSON.stringify({ query }),
  });
  const { data, annotation } = await reply.json();
  assert.equal(Number(data[0].half) * 2, Number(data[0]['Production.count']));
  assert.equal(annotation.measures.half.type, 'number');
});

test('signed claims open the door, and their scopes bound what is behind it', options, async () => {
  const reader = cubejs(signed({ groups: ['viewers'], scopes: ['data', 'meta'] }), { apiUrl: server.api });
  assert.ok((await reader.load(counted)).rawData().length > 1);
  await assert.rejects(reader.sql(counted), (error) => /API scope is missing: sql/.test(error.message));
  const stranger = cubejs('not.a.token', { apiUrl: server.api });
  await assert.rejects(stranger.load(counted), (error) => error.status === 403);
});

test('the WebSocket client loads, reads meta and subscribes', options, async () => {
  const socket = new WebSocketTransport({
    authorization: server.token,
    apiUrl: `${server.base.replace('http', 'ws')}/`,
  });
  const live = cubejs(server.token, { apiUrl: server.api, transport: socket });
  try {
    const result = await live.load(counted);
    assert.deepEqual(
      result.rawData().length,
      (await client.load(counted)).rawData().length,
    );
    assert.ok((await live.meta()).cubes.length > 0);
    assert.match((await live.sql(counted)).sql(), /^SELECT/);
    const first = await new Promise((found, failed) => {
      live.load(counted, { subscribe: true }, (error, set) => (error ? failed(error) : found(set)));
    });
    assert.ok(first.rawData().length > 1);
    await assert.rejects(live.load({ measures: ['Production.nothing'] }));
  } finally {
    await socket.close?.();
    socket.ws?.close?.();
  }
});

test('every answer names a proof, by whichever way it comes', options, async () => {
  const headers = { authorization: server.token };
  const proved = async (id) => {
    const bearer = { authorization: `Bearer ${server.token}` };
    const reply = await fetch(`${server.base}/api/proofs/${id}`, { headers: bearer });
    assert.equal(reply.status, 200, `${id}: ${await reply.clone().text()}`);
    const proof = await reply.json();
    assert.ok(proof.evidence[0].tables.length > 0, JSON.stringify(proof));
  };
  const asked = new URLSearchParams({ query: JSON.stringify(counted), cache: 'no-cache' });
  const loaded = await fetch(`${server.api}/load?${asked}`, { headers });
  await loaded.json();
  await proved(loaded.headers.get('x-ballpoint-proof'));
  const streamed = await fetch(`${server.api}/cubesql`, {
    method: 'POST', headers, body: JSON.stringify({ query: 'SELECT MEASURE(count) FROM Production' }),
  });
  await streamed.text();
  await proved(streamed.headers.get('x-ballpoint-proof'));

  const WebSocket = require('ws');
  const socket = new WebSocket(`${server.base.replace('http', 'ws')}/`);
  await new Promise((open, failed) => socket.once('open', open).once('error', failed));
  const answer = new Promise((found) => {
    socket.on('message', (text) => {
      const message = JSON.parse(text);
      if (message.message?.data) found(message);
    });
  });
  socket.send(JSON.stringify({ authorization: server.token }));
  socket.send(JSON.stringify({ messageId: 1, method: 'subscribe', params: { query: counted } }));
  await proved((await answer).proof);
  socket.close();

  const query = encodeURIComponent(JSON.stringify(counted));
  const live = await fetch(`${server.base}/api/live?query=${query}`, { headers: { authorization: `Bearer ${server.token}` } });
  const reader = live.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  while (!/^id: ?\w+\n/m.test(text)) text += (await reader.read()).value;
  await proved(text.match(/^id: ?(\w+)$/m)[1]);
  await reader.cancel();
});

test("a WebSocket without a valid token is told so, and a stranger's gets no rows", options, async () => {
  const WebSocket = require('ws');
  const socket = new WebSocket(`${server.base.replace('http', 'ws')}/`);
  await new Promise((open, failed) => socket.once('open', open).once('error', failed));
  const next = () => new Promise((found) => socket.once('message', (text) => found(JSON.parse(text))));
  let reply = next();
  socket.send(JSON.stringify({ messageId: 1, method: 'load', params: { query: counted } }));
  assert.deepEqual(await reply, { messageId: '1', message: { error: 'Not authorized' }, status: 403 });
  reply = next();
  socket.send(JSON.stringify({ authorization: 'wrong' }));
  assert.equal((await reply).status, 403);
  reply = next();
  socket.send(JSON.stringify({ authorization: server.token }));
  assert.deepEqual(await reply, { handshake: true });
  socket.close();
});

test("React's hooks render what the server answers", options, async () => {
  const { JSDOM } = require('jsdom');
  const dom = new JSDOM('<div id="root"></div>', { url: server.base });
  Object.assign(globalThis, { window: dom.window, document: dom.window.document });
  globalThis.navigator ??= dom.window.navigator;
  globalThis.IS_REACT_ACT_ENVIRONMENT = false;
  const React = require('react');
  const { createRoot } = require('react-dom/client');
  const { CubeProvider, useCubeQuery, useCubeMeta, useDryRun, useLazyDryRun } = require('@cubejs-client/react');
  assert.equal(typeof useLazyDryRun, 'function');
  const seen = {};
  const Rows = () => {
    const { resultSet, error } = useCubeQuery(counted);
    const known = useCubeMeta();
    const dry = useDryRun(counted);
    Object.assign(seen, { resultSet, error, meta: known.response, dry: dry.response });
    return React.createElement('p', null, resultSet ? `${resultSet.tablePivot().length} rows` : 'waiting');
  };
  const root = createRoot(dom.window.document.getElementById('root'));
  root.render(React.createElement(CubeProvider, { cubeApi: client, cubejsApi: client }, React.createElement(Rows)));
  const end = Date.now() + PATIENCE;
  while (!(seen.resultSet && seen.meta && seen.dry) && !seen.error) {
    assert.ok(Date.now() < end, 'the hooks have not answered');
    await new Promise((later) => setTimeout(later, 50));
  }
  assert.equal(seen.error ?? null, null);
  const rows = seen.resultSet.tablePivot().length;
  assert.equal(dom.window.document.querySelector('p').textContent, `${rows} rows`);
  assert.equal(seen.dry.queryType, 'regularQuery');
  root.unmount();
});

test("Cube's own compiler reads the example's model, and /meta agrees with it", options, async () => {
  const theirs = await meta(join(ROOT, 'warehouse/metrics'));
  const reply = await fetch(`${server.api}/meta`, { headers: { authorization: server.token } });
  const ours = (await reply.json()).cubes;
  const byName = (cubes) => Object.fromEntries(cubes.map((cube) => [cube.name, cube]));
  const [wanted, given] = [byName(theirs), byName(ours)];
  assert.deepEqual(Object.keys(given).sort(), Object.keys(wanted).sort());
  for (const [name, cube] of Object.entries(wanted)) {
    // Keys without a value are not sent, and numbers of components are anybody's.
    const plain = JSON.parse(JSON.stringify(cube));
    for (const [key, value] of Object.entries(plain)) {
      if (key === 'connectedComponent' || value === null) continue;
      // The server leaves out what is not public; its compiler does not.
      const wanted = ['measures', 'dimensions', 'segments'].includes(key)
        ? value.filter((member) => member.isVisible)
        : value;
      assert.deepEqual(given[name][key], wanted, `${name}.${key}`);
    }
  }
});
