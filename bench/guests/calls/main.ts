// Makes twenty capability calls, one after the other, then replies.
import { CronCapability, consensusMedianAggregation, handler, Runner, type Runtime } from '@chainlink/cre-sdk'

const CALLS = 20

const onCron = (runtime: Runtime<unknown>): number => {
	let sum = 0
	for (let i = 0; i < CALLS; i++) {
		sum += runtime.runInNodeMode(() => i, consensusMedianAggregation<number>())().result()
	}
	return sum
}

const initWorkflow = () => [handler(new CronCapability().trigger({ schedule: '*/30 * * * * *' }), onCron)]

export async function main() {
	const runner = await Runner.newRunner()
	await runner.run(initWorkflow)
}
