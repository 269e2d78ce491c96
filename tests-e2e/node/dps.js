// The provisioning service's API as the unmodified azure-iot-provisioning-service sees it. Prints one JSON object: what each step gave.

'use strict';

const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');
const { attempt, body, main } = require('./steps');

/** Every page of a query. */
async function pages(query) {
  const all = [];
  while (query.hasMoreResults) {
    // Of a promise's call it keeps the token, and does not send it by itself.
    all.push(body(await query.next(query.continuationToken)));
  }
  return all;
}

main(async (connectionString) => {
  const client = ProvisioningServiceClient.fromConnectionString(connectionString);
  const seen = {};
  const enrollment = (registrationId) => ({ registrationId, attestation: { type: 'symmetricKey', symmetricKey: {} } });

  // Individual enrollments: made once, changed by who has seen the newest.
  const created = body(
    await client.createOrUpdateIndividualEnrollment({
      ...enrollment('node-1'),
      deviceId: 'Node-1',
      initialTwin: { tags: { line: 4 }, properties: { desired: { rate: 10 } } },
    })
  );
  seen.created = created;
  seen.again = await attempt(client.createOrUpdateIndividualEnrollment(enrollment('node-1')));
  const updated = body(
    await client.createOrUpdateIndividualEnrollment({ ...created, provisioningStatus: 'disabled' })
  );
  seen.updated = updated.provisioningStatus;
  seen.stale = await attempt(client.createOrUpdateIndividualEnrollment({ ...created, provisioningStatus: 'enabled' }));
  seen.got = body(await client.getIndividualEnrollment('node-1'));
  seen.keys = body(await client.getIndividualEnrollmentAttestationMechanism('node-1'));
  seen.missing = await attempt(client.getIndividualEnrollment('nobody'));

  // Groups.
  const group = body(
    await client.createOrUpdateEnrollmentGroup({
      enrollmentGroupId: 'line-4',
      attestation: { type: 'symmetricKey', symmetricKey: {} },
    })
  );
  seen.group = group.enrollmentGroupId;
  seen.groupKeys = body(await client.getEnrollmentGroupAttestationMechanism('line-4'));
  seen.groups = (await pages(client.createEnrollmentGroupQuery({ query: '*' }))).flat().map((one) => one.enrollmentGroupId);
  seen.members = (
    await pages(client.createEnrollmentGroupDeviceRegistrationStateQuery({ query: '*' }, 'line-4', 5))
  ).flat();

  // Bulk: a promise of this call never settles unless a callback is given.
  const bulk = (mode, enrollments) =>
    new Promise((resolve, reject) => {
      client.runBulkEnrollmentOperation({ mode, enrollments }, (error, result) => (error ? reject(error) : resolve(result)));
    });
  seen.bulk = await bulk('create', [enrollment('node-2'), enrollment('node-3'), enrollment('node-1')]);
  seen.pages = (await pages(client.createIndividualEnrollmentQuery({ query: '*' }, 1))).map((page) =>
    page.map((one) => one.registrationId)
  );
  seen.bulkDelete = await bulk('delete', [enrollment('node-2'), enrollment('node-3')]);

  // Registration states.
  seen.noState = await attempt(client.getDeviceRegistrationState('node-1'));
  const registered = process.env.UNICITY_REGISTERED;
  if (registered) {
    seen.state = body(await client.getDeviceRegistrationState(registered));
    await client.deleteDeviceRegistrationState(seen.state);
    seen.deletedState = await attempt(client.getDeviceRegistrationState(registered));
  }

  seen.staleDelete = await attempt(client.deleteIndividualEnrollment('node-1', created.etag));
  await client.deleteIndividualEnrollment('node-1', updated.etag);
  await client.deleteEnrollmentGroup('line-4');
  seen.left = (await pages(client.createIndividualEnrollmentQuery({ query: 'SELECT * FROM enrollments' }))).flat()
    .map((one) => one.registrationId);
  return seen;
});
