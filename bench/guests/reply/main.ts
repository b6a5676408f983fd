// Only replies.
import { CronCapability, handler, Runner } from '@chainlink/cre-sdk'

const onCron = (): string => 'Hello world!'

const initWorkflow = () => [handler(new CronCapability().trigger({ schedule: '*/30 * * * * *' }), onCron)]

export async function main() {
	const runner = await Runner.newRunner()
	await runner.run(initWorkflow)
}
