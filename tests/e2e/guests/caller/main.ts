// Calls every capability id that its configuration names, and returns what each call came to.
import { create } from '@bufbuild/protobuf'
import { EmptySchema } from '@bufbuild/protobuf/wkt'
import { CronCapability, handler, Runner, type Runtime } from '@chainlink/cre-sdk'

type Config = { ids: string[]; method: string }

const call = (runtime: Runtime<Config>, id: string): string => {
	try {
		runtime
			.callCapability({
				capabilityId: id,
				method: runtime.config.method,
				payload: create(EmptySchema),
				inputSchema: EmptySchema,
				outputSchema: EmptySchema,
			})
			.result()
		return 'ok'
	} catch (error) {
		return error instanceof Error ? error.message : String(error)
	}
}

const onCron = (runtime: Runtime<Config>): string[] => runtime.config.ids.map((id) => call(runtime, id))

const initWorkflow = () => [handler(new CronCapability().trigger({ schedule: '*/30 * * * * *' }), onCron)]

export async function main() {
	const runner = await Runner.newRunner<Config>()
	await runner.run(initWorkflow)
}
