-- The rows of the sample tenants, as they are before any job has run. Each tenant_id is the externalID of a Tenant in config/samples.
CALL operations.fill('9f1c0c1e-5d0b-4c8e-9a55-0d6f3b1f7a21', 'acme');
CALL operations.fill('2b7d4f60-8c3e-4a19-b0c4-6a1e52d9c8f3', 'globex');
CALL operations.fill('7a51e9d2-0f7b-4d0e-9c1c-3e8d5a6b2f14', 'hooli');
CALL operations.fill('c4e0b7a6-91d3-4f52-8a2e-5b9f0d7c6e83', 'soylent');
CALL operations.fill('initech', 'initech');
