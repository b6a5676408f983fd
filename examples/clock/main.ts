import {
	CronCapability,
	type CronPayload,
	Decimal,
	handler,
	Int64,
	Runner,
	type Runtime,
} from '@chainlink/cre-sdk'
import { z } from 'zod'

const configSchema = z.object({
	schedule: z.string().min(1),
	greeting: z.string().min(1),
})

type Config = z.infer<typeof configSchema>

// The time is the DON's: every node that runs this handler reads the same `now`.
const onTick = (runtime: Runtime<Config>, tick: CronPayload) => {
	const { greeting } = runtime.config
	const now = runtime.now()
	const seconds = BigInt(now.getTime()) / 1000n

	runtime.log(`${greeting}, it is ${now.toUTCString()}`)

	// One value of each kind that a workflow may return.
	return {
		greeting,
		now,
		weekend: [0, 6].includes(now.getUTCDay()),
		hour: now.getUTCHours(),
		date: [now.getUTCFullYear(), now.getUTCMonth() + 1, now.getUTCDate()],
		scheduled: new Int64(tick.scheduledExecutionTime?.seconds ?? 0n),
		epoch: new Decimal(BigInt(now.getTime()), -3),
		secondsToMidnight: 86_400n - (seconds % 86_400n),
	}
}

const initWorkflow = (config: Config) => {
	const cron = new CronCapability()

	return [handler(cron.trigger({ schedule: config.schedule }), onTick)]
}

export async function main() {
	const runner = await Runner.newRunner<Config>({ configSchema })
	await runner.run(initWorkflow)
}
