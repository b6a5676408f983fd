import {
	CronCapability,
	consensusMedianAggregation,
	handler,
	type NodeRuntime,
	Runner,
	type Runtime,
} from '@chainlink/cre-sdk'
import { z } from 'zod'

const configSchema = z.object({
	schedule: z.string().min(1),
	samples: z.array(z.number().finite()).min(1),
})

type Config = z.infer<typeof configSchema>

// What one node observes: the middle of its samples. A real workflow would fetch them here,
// where each node may see something else.
const observe = (nodeRuntime: NodeRuntime<Config>): number => {
	const sorted = [...nodeRuntime.config.samples].sort((a, b) => a - b)
	const middle = sorted[Math.floor((sorted.length - 1) / 2)]
	if (middle === undefined) {
		throw new Error('there are no samples to observe')
	}

	return middle
}

const onTick = (runtime: Runtime<Config>): number => {
	const agreed = runtime.runInNodeMode(observe, consensusMedianAggregation<number>())().result()
	runtime.log(`the nodes agreed on ${agreed}`)

	return agreed
}

const initWorkflow = (config: Config) => {
	const cron = new CronCapability()

	return [handler(cron.trigger({ schedule: config.schedule }), onTick)]
}

export async function main() {
	const runner = await Runner.newRunner<Config>({ configSchema })
	await runner.run(initWorkflow)
}
