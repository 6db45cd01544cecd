// Cube's own compiler, without its native parts: what it makes of a folder of YAML.
import { createRequire } from 'node:module';
import Module from 'node:module';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

process.env.CUBEJS_TRANSPILATION_NATIVE = 'false';
process.env.CUBEJS_TESSERACT_SQL_PLANNER = 'false';

const require = createRequire(import.meta.url);

// The native module renders Jinja and runs Python: a model without either needs neither.
const absent = () => {
  throw new Error('the model needs the native parts of Cube');
};
const native = new Proxy(
  { NativeInstance: class { newJinjaEngine() { return { renderTemplate: absent }; } }, isFallbackBuild: () => true },
  { get: (known, name) => known[name] ?? absent },
);
const load = Module._load;
Module._load = (request, ...rest) => (request === '@cubejs-backend/native' ? native : load(request, ...rest));

const { prepareCompiler } = require('@cubejs-backend/schema-compiler');

function files(folder, root = folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return files(path, root);
    if (!/\.ya?ml$/.test(entry.name)) return [];
    return [{ fileName: relative(root, path), content: readFileSync(path, 'utf8') }];
  });
}

/** `/meta` as Cube's compiler makes it: cubes with their measures, dimensions and segments. */
export async function meta(folder) {
  const repository = { localPath: () => folder, dataSchemaFiles: async () => files(folder) };
  const { compiler, metaTransformer } = prepareCompiler(repository, { adapter: 'postgres' });
  await compiler.compile();
  return metaTransformer.cubes.map((cube) => cube.config);
}
