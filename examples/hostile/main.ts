import { CronCapability, handler, Runner, type Runtime } from '@chainlink/cre-sdk'
import { VALUES_PB } from '@chainlink/cre-sdk/pb'
import { z } from 'zod'

const configSchema = z.object({
	schedule: z.string().min(1),
	method: z.string(),
	ids: z.array(z.string()).min(1),
})

type Config = z.infer<typeof configSchema>
type Attempt = { id: string; refused: boolean; error: string }

// What a call of a capability comes to. Any message will do: what must not be found is not asked what it takes.
const attempt = (runtime: Runtime<Config>, id: string): Attempt => {
	try {
		runtime
			.callCapability({
				capabilityId: id,
				method: runtime.config.method,
				payload: { $typeName: 'values.v1.Map', fields: {} },
				inputSchema: VALUES_PB.MapSchema,
				outputSchema: VALUES_PB.MapSchema,
			})
			.result()

		return { id, refused: false, error: '' }
	} catch (error) {
		return { id, refused: true, error: error instanceof Error ? error.message : String(error) }
	}
}

const onTick = (runtime: Runtime<Config>): Attempt[] => runtime.config.ids.map((id) => attempt(runtime, id))

const initWorkflow = (config: Config) => {
	const cron = new CronCapability()

	return [handler(cron.trigger({ schedule: config.schedule }), onTick)]
}

export async function main() {
	const runner = await Runner.newRunner<Config>({ configSchema })
	await runner.run(initWorkflow)
}
