// The hub's service API as the unmodified azure-iothub sees it. Prints one JSON object: what each step gave.

'use strict';

const { Registry } = require('azure-iothub');
const { attempt, body, main } = require('./steps');

main(async (connectionString) => {
  const registry = Registry.fromConnectionString(connectionString);
  const seen = {};

  // Devices. Without authentication the SDK sends empty keys, which means that the service makes them.
  seen.created = body(await registry.create({ deviceId: 'node-1' }));
  seen.again = await attempt(registry.create({ deviceId: 'node-1' }));
  seen.missing = await attempt(registry.get('nobody'));
  seen.disabled = body(await registry.update({ deviceId: 'node-1', status: 'disabled', statusReason: 'test' }));
  seen.listed = body(await registry.list()).map((device) => device.deviceId);

  // Bulk: all three ways, and one row that fails.
  const rows = [1, 2, 3].map((n) => ({ deviceId: `bulk-${n}`, status: 'enabled' }));
  seen.added = body(await registry.addDevices(rows));
  seen.addedAgain = await attempt(registry.addDevices([{ deviceId: 'bulk-1' }, { deviceId: 'bulk-4' }]));
  seen.updated = body(await registry.updateDevices([{ deviceId: 'bulk-2', status: 'disabled' }], true));
  seen.removed = body(await registry.removeDevices([{ deviceId: 'bulk-3' }], true));

  // Twins: by the registry and by the object.
  const twin = body(await registry.getTwin('bulk-1'));
  seen.etag = twin.etag;
  const updated = body(await registry.updateTwin('bulk-1', { tags: { site: 'Basel' } }, twin.etag));
  seen.tags = updated.tags;
  seen.stale = await attempt(registry.updateTwin('bulk-1', { tags: { site: 'Bern' } }, twin.etag));
  // It brings the object up to date.
  await updated.update({ properties: { desired: { rate: 10 } } });
  seen.desired = updated.properties.desired;
  body(await registry.updateTwin('bulk-2', { tags: { site: 'Bern' } }, '*'));

  // Modules.
  body(await registry.addModule({ deviceId: 'bulk-1', moduleId: 'camera' }));
  seen.modules = body(await registry.getModulesOnDevice('bulk-1')).map((module) => module.moduleId);
  const module = body(await registry.getModule('bulk-1', 'camera'));
  body(await registry.updateModule({ ...module, managedBy: 'node' }, true));
  seen.managedBy = body(await registry.getModule('bulk-1', 'camera')).managedBy;
  const moduleTwin = body(await registry.getModuleTwin('bulk-1', 'camera'));
  seen.moduleTags = body(
    await registry.updateModuleTwin('bulk-1', 'camera', { tags: { lens: 2 } }, moduleTwin.etag)
  ).tags;

  // Queries: typed and raw, page by page.
  const twins = registry.createQuery("SELECT * FROM devices WHERE starts_with(deviceId, 'bulk')", 1);
  seen.pages = [];
  while (twins.hasMoreResults) {
    // A page may be empty, as of the real service: what it looked at met no condition.
    const page = body(await twins.nextAsTwin());
    if (page.length > 0) seen.pages.push(page.map((found) => found.deviceId));
  }
  const raw = registry.createQuery('SELECT tags.site, COUNT() AS n FROM devices WHERE is_defined(tags.site) GROUP BY tags.site');
  seen.raw = body(await raw.next(raw.continuationToken));
  seen.wrong = await attempt(registry.createQuery('SELECT * FROM devices WHERE').next());

  seen.statistics = body(await registry.getRegistryStatistics());
  seen.job = await attempt(registry.exportDevicesToBlob('https://example.invalid/container', true));
  await registry.removeModule('bulk-1', 'camera');
  seen.removedModule = await attempt(registry.getModule('bulk-1', 'camera'));
  await registry.delete('node-1');
  seen.deleted = await attempt(registry.get('node-1'));
  return seen;
});
