// Whose data is asked for, where a querier knows tenants.
import { ask } from '../api/ask';

let header: Promise<string> | undefined;

/** The header that names the tenant, with it; the flags of the querier say which one. */
export async function tenantHeaders(tenant: string): Promise<Record<string, string>> {
  if (tenant === '') return {};
  header ??= ask<Record<string, string>>('status/flags').then(
    ({ data }) => data['query.tenant-header'] || 'THANOS-TENANT',
    () => {
      header = undefined; // the next query tries again
      return 'THANOS-TENANT';
    },
  );
  return { [await header]: tenant };
}
